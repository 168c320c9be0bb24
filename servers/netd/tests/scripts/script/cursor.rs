//! Reading text, a token at a time.

use std::net::IpAddr;

pub type Result<T> = std::result::Result<T, String>;

#[derive(Clone, Copy)]
pub struct Cursor<'a> {
    pub rest: &'a str,
}

impl<'a> Cursor<'a> {
    pub fn new(text: &'a str) -> Self {
        Self { rest: text.trim() }
    }
    fn skip(&mut self, n: usize) {
        self.rest = self.rest[n..].trim_start();
    }
    pub fn at_end(&self) -> bool {
        self.rest.is_empty()
    }
    /// Takes `token` if it is next.
    pub fn eat(&mut self, token: &str) -> bool {
        let there = self.rest.starts_with(token);
        if there {
            self.skip(token.len());
        }
        there
    }
    pub fn expect(&mut self, token: &str) -> Result<()> {
        if self.eat(token) {
            Ok(())
        } else {
            Err(format!("`{token}` is missing before `{}`", self.rest))
        }
    }
    /// Takes the longest beginning of characters that satisfy `is`.
    pub fn take(&mut self, is: impl Fn(char) -> bool) -> &'a str {
        let n = self.rest.find(|c| !is(c)).unwrap_or(self.rest.len());
        let found = &self.rest[..n];
        self.skip(n);
        found
    }
    pub fn peek_word(&self) -> &'a str {
        self.clone().take(|c| c.is_ascii_alphanumeric() || c == '_')
    }
    pub fn word(&mut self) -> &'a str {
        self.take(|c| c.is_ascii_alphanumeric() || c == '_')
    }
    /// Takes `word` if it is the next whole word.
    pub fn eat_word(&mut self, word: &str) -> bool {
        self.peek_word() == word && self.eat(word)
    }
    /// Up to `end`, which is passed over.
    pub fn until(&mut self, end: &str) -> Result<&'a str> {
        let n = self.rest.find(end).ok_or_else(|| format!("`{end}` is missing"))?;
        let found = &self.rest[..n];
        self.skip(n + end.len());
        Ok(found)
    }
    /// A number: decimal or 0x hexadecimal, perhaps negative.
    pub fn number(&mut self) -> Result<i64> {
        let before = self.rest;
        let negative = self.eat("-");
        let word = self.word();
        let value = match word.strip_prefix("0x") {
            Some(hex) => i64::from_str_radix(hex, 16),
            None => word.parse(),
        };
        let value = value.map_err(|_| format!("no number: `{before}`"))?;
        Ok(if negative { -value } else { value })
    }
    pub fn num<T: TryFrom<i64>>(&mut self) -> Result<T> {
        let n = self.number()?;
        T::try_from(n).map_err(|_| format!("{n} is out of range"))
    }
    pub fn is_number(&self) -> bool {
        self.rest.starts_with(|c: char| c.is_ascii_digit())
    }
    /// Hexadecimal digits, spaces allowed between them if `spaced`.
    pub fn hex(&mut self, spaced: bool) -> Result<Vec<u8>> {
        let digits: String = if spaced {
            self.take(|c| c.is_ascii_hexdigit() || c.is_whitespace()).split_whitespace().collect()
        } else {
            self.take(|c| c.is_ascii_hexdigit()).into()
        };
        let digits = digits.strip_prefix("0x").unwrap_or(&digits);
        if !digits.len().is_multiple_of(2) {
            return Err(format!("an odd number of digits: {digits}"));
        }
        (0..digits.len())
            .step_by(2)
            .map(|i| u8::from_str_radix(&digits[i..i + 2], 16).map_err(|e| e.to_string()))
            .collect()
    }
    pub fn ip(&mut self) -> Result<IpAddr> {
        let word = self.take(|c| c.is_ascii_hexdigit() || ".:".contains(c));
        word.parse().map_err(|_| format!("no address: `{word}`"))
    }
    pub fn mac(&mut self) -> Result<[u8; 6]> {
        let word = self.take(|c| c.is_ascii_hexdigit() || c == ':');
        let bytes: Option<Vec<u8>> =
            word.split(':').map(|b| u8::from_str_radix(b, 16).ok()).collect();
        bytes.and_then(|b| b.try_into().ok()).ok_or_else(|| format!("no MAC: `{word}`"))
    }
    /// Seconds, to nanoseconds.
    pub fn seconds(&mut self) -> Result<u64> {
        let before = self.rest;
        // Not the second of the dots that stand between times.
        let n = self.rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(self.rest.len());
        let mut len = n;
        if self.rest[n..].starts_with('.') && !self.rest[n..].starts_with("...") {
            let more = &self.rest[n + 1..];
            len = n + 1 + more.find(|c: char| !c.is_ascii_digit()).unwrap_or(more.len());
        }
        let text = &self.rest[..len];
        self.skip(len);
        let value: f64 = text.parse().map_err(|_| format!("no time: `{before}`"))?;
        Ok((value * 1e9).round() as u64)
    }
}
