//! What servers have said, as long as they said it holds.

use alloc::string::String;
use alloc::vec::Vec;
use core::net::IpAddr;
use core::time::Duration;

use super::{Error, Family};
use crate::runtime::Instant;

/// Names that are remembered.
const ENTRIES: usize = 64;
/// Longest that anything is believed, s.
const LONGEST: u32 = 24 * 3600;
/// Longest that nothing is believed, s (RFC 2308 5).
const LONGEST_NOTHING: u32 = 3 * 3600;

struct Entry {
    name: String,
    family: Family,
    said: Result<Vec<IpAddr>, Error>,
    until: Instant,
}

/// Answers by name and family.
#[derive(Default)]
pub struct Cache(Vec<Entry>);

impl Cache {
    /// What is known of a name.
    pub fn get(
        &self,
        name: &str,
        family: Family,
        now: Instant,
    ) -> Option<Result<Vec<IpAddr>, Error>> {
        let entry = self.0.iter().find(|e| e.is(name, family) && now < e.until)?;
        Some(entry.said.clone())
    }

    /// Remembers for `ttl` seconds; when it is full, in place of what ends first.
    pub fn put(
        &mut self,
        name: &str,
        family: Family,
        said: Result<Vec<IpAddr>, Error>,
        ttl: u32,
        now: Instant,
    ) {
        let empty = said.as_ref().map_or(true, Vec::is_empty);
        let ttl = ttl.min(if empty { LONGEST_NOTHING } else { LONGEST });
        self.0.retain(|e| now < e.until && !e.is(name, family));
        if ttl == 0 {
            return;
        }
        if self.0.len() == ENTRIES
            && let Some(first) = (0..ENTRIES).min_by_key(|i| self.0[*i].until)
        {
            self.0.swap_remove(first);
        }
        let until = now + Duration::from_secs(ttl as u64);
        self.0.push(Entry { name: name.into(), family, said, until });
    }
}

impl Entry {
    fn is(&self, name: &str, family: Family) -> bool {
        self.family == family && self.name.eq_ignore_ascii_case(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::format;
    use alloc::vec;

    const S: Duration = Duration::from_secs(1);

    #[test]
    fn what_is_known_ends_with_its_time() {
        let mut cache = Cache::default();
        let (now, ip) = (Instant(1), IpAddr::from([192, 0, 2, 1]));
        cache.put("A.example", Family::V4, Ok(vec![ip]), 10, now);
        assert_eq!(cache.get("a.EXAMPLE", Family::V4, now + 9 * S), Some(Ok(vec![ip])));
        assert_eq!(cache.get("a.example", Family::V6, now), None);
        assert_eq!(cache.get("a.example", Family::V4, now + 10 * S), None);
        cache.put("b", Family::V4, Err(Error::NoSuchName), u32::MAX, now);
        assert_eq!(cache.get("b", Family::V4, now + 10_799 * S), Some(Err(Error::NoSuchName)));
        assert_eq!(cache.get("b", Family::V4, now + 10_800 * S), None);
        cache.put("b", Family::V4, Ok(vec![]), 0, now);
        assert_eq!(cache.get("b", Family::V4, now), None, "the newest word counts");
    }

    #[test]
    fn what_ends_first_gives_way() {
        let mut cache = Cache::default();
        let now = Instant(1);
        for i in 0..=ENTRIES as u32 {
            let ttl = if i == 5 { 50 } else { 100 + i };
            cache.put(&format!("n{i}"), Family::V4, Ok(vec![]), ttl, now);
        }
        assert_eq!(cache.0.len(), ENTRIES);
        assert_eq!(cache.get("n5", Family::V4, now), None);
        assert!(cache.get("n0", Family::V4, now).is_some());
    }
}
