//! How often mounted file systems tell their disk what they do not use any more.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// A period, or never.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TrimSchedule(Option<Duration>);

impl TrimSchedule {
    /// Never.
    pub const NEVER: Self = Self(None);
    /// Once a day: what thin volumes do not use any more fills their pool.
    pub const DAILY: Self = Self(Some(Duration::from_hours(24)));

    /// The time from one trim of a volume to the next, a second at least.
    pub fn period(self) -> Option<Duration> {
        self.0
    }
}

impl FromStr for TrimSchedule {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "never" {
            return Ok(Self::NEVER);
        }
        let period = humantime::parse_duration(text).ok().filter(|period| *period >= Duration::from_secs(1));
        let period =
            period.ok_or_else(|| format!("{text:?} is no period; write never, or a time such as 12h or 7days"))?;
        Ok(Self(Some(period)))
    }
}

impl fmt::Display for TrimSchedule {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(period) => humantime::format_duration(period).fmt(formatter),
            None => formatter.write_str("never"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn periods_are_read_and_written() {
        for (text, written) in [("never", "never"), ("24h", "1day"), ("7days", "7days"), ("90s", "1m 30s")] {
            assert_eq!(text.parse::<TrimSchedule>().map(|schedule| schedule.to_string()), Ok(written.to_owned()));
        }
        for text in ["", "0s", "10ms", "daily", "24", "-1h"] {
            assert!(text.parse::<TrimSchedule>().unwrap_err().contains("such as 12h"), "{text}");
        }
    }
}
