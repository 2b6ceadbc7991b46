//! stub until merged
use jiff::{Timestamp, tz::TimeZone};
/// stub
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Schedule {
    cron: String,
}
/// stub
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DayFields {
    /// or
    Or,
    /// and
    And,
}
/// stub
#[derive(Debug)]
pub struct ScheduleError {
    /// kebab-case code
    pub code: &'static str,
    /// byte range inside the text
    pub span: std::ops::Range<usize>,
    /// what
    pub message: String,
    /// remedy
    pub help: String,
}
impl Schedule {
    /// stub
    pub fn parse(
        text: &str,
        _zone: TimeZone,
        _zone_name: &str,
        _day_fields: Option<DayFields>,
    ) -> Result<Schedule, ScheduleError> {
        Ok(Schedule { cron: text.to_owned() })
    }
    /// strictly after
    pub fn next_fire(&self, _after: Timestamp) -> Option<Timestamp> {
        None
    }
    /// the latest fire in (since, until]
    pub fn last_fire(&self, _since: Timestamp, _until: Timestamp) -> Option<Timestamp> {
        None
    }
    /// the next n
    pub fn next_fires(&self, _after: Timestamp, _n: usize) -> Vec<Timestamp> {
        Vec::new()
    }
    /// the zone
    pub fn zone(&self) -> &TimeZone {
        const UTC: &TimeZone = &TimeZone::UTC;
        UTC
    }
    /// zone name
    pub fn zone_name(&self) -> &str {
        "UTC"
    }
    /// text
    pub fn text(&self) -> &str {
        &self.cron
    }
}
