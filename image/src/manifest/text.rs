//! The text of a manifest: one file, or two, one behind the other.

use std::path::Path;

use super::Error;

/// See the [module](self).
#[derive(Default)]
pub struct Text {
    all: String,
    /// Name of each file, and where it begins.
    files: Vec<(String, usize)>,
}

impl Text {
    /// One file's.
    pub fn of(name: &str, text: &str) -> Self {
        Self { all: text.into(), files: vec![(name.into(), 0)] }
    }

    /// Adds a file; where it begins.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn add(&mut self, path: &Path) -> Result<usize, Error> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| Error::Read { path: path.display().to_string(), source })?;
        let name = path.file_name().map_or_else(String::new, |n| n.to_string_lossy().into_owned());
        if !self.all.is_empty() && !self.all.ends_with('\n') {
            self.all.push('\n');
        }
        let at = self.all.len();
        self.files.push((name, at));
        self.all += &text;
        Ok(at)
    }

    /// All of it.
    pub fn all(&self) -> &str {
        &self.all
    }

    /// Number of the line in which byte `at` stands, of all, from 1.
    pub fn line(&self, at: usize) -> usize {
        let before = &self.all.as_bytes()[..at.min(self.all.len())];
        1 + before.iter().filter(|b| **b == b'\n').count()
    }

    /// File of byte `at`, and the line in it.
    pub fn place(&self, at: usize) -> (&str, usize) {
        let found = self.files.iter().rfind(|(_, from)| *from <= at);
        let (name, from) = found.map_or(("", 0), |(name, from)| (name.as_str(), *from));
        (name, self.line(at) - self.line(from) + 1)
    }
}
