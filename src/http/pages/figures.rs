//! What the overview shows, gathered in one read of the database. Many who look at once share what is a moment old (see
//! [`FRESH`]); whoever has just ordered something sees what came of it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{Span, Timestamp};
use tokio::time::Instant;

use super::{PAGE_TIMEOUT, Problem, in_time};
use crate::engine::Context;
use crate::store::control::{self, PortalStop};
use crate::store::days;
use crate::store::events::{self, EventCounts, Gap};
use crate::store::jobs::{self, Capped, DueSummary, JobCounts};
use crate::store::runs::{self, RuleState, Run};

/// How old shared figures may be, at least: nobody reads faster.
const FRESH: Duration = Duration::from_secs(1);

/// How many times as long as they took to gather: with a million jobs that is a quarter of a second of counting, and an
/// open page must not keep a core busy.
const PAUSE: u32 = 20;

/// How old they may be at most.
const STALE: Duration = Duration::from_secs(10);

/// How many days the charts show.
const DAYS: i32 = 30;

/// What the database says at one moment.
pub(super) struct Figures {
    pub(super) events: EventCounts,
    pub(super) jobs: JobCounts,
    pub(super) due: DueSummary,
    pub(super) paused: bool,
    pub(super) stop: Option<PortalStop>,
    pub(super) last_error: Option<(String, Timestamp)>,
    pub(super) silent: Option<Timestamp>,
    pub(super) gaps: Vec<Gap>,
    pub(super) capped: Vec<Capped>,
    pub(super) held: Vec<Run>,
    pub(super) states: Vec<RuleState>,
    /// The days with evaluated events and deletions, the oldest first, today last.
    pub(super) days: Vec<Day>,
}

/// What happened on a day.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Day {
    pub(super) date: Date,
    pub(super) events: u64,
    pub(super) deleted: u64,
}

/// The figures that were gathered last.
#[derive(Default)]
pub(super) struct Cache {
    /// With the moment until which they are shown.
    latest: tokio::sync::Mutex<Option<(Instant, Arc<Figures>)>>,
    /// Days that are over, by their first moment: nothing more happens on them.
    days: Mutex<BTreeMap<Timestamp, Day>>,
}

impl Cache {
    /// Makes the next look a new one.
    pub(super) async fn forget(&self) {
        *self.latest.lock().await = None;
    }

    /// The figures of now, or of a moment ago. Whoever comes meanwhile waits for the same.
    pub(super) async fn figures(&self, ctx: &Context, zone: &TimeZone) -> Result<Arc<Figures>, Problem> {
        let Ok(mut latest) = tokio::time::timeout(PAGE_TIMEOUT, self.latest.lock()).await else {
            return Err(Problem::TooSlow);
        };
        let begun = Instant::now();
        if let Some((until, figures)) = latest.as_ref()
            && begun < *until
        {
            return Ok(Arc::clone(figures));
        }
        let figures = Arc::new(self.gather(ctx, zone).await?);
        let fresh = begun.elapsed().saturating_mul(PAUSE).clamp(FRESH, STALE);
        *latest = Some((Instant::now() + fresh, Arc::clone(&figures)));
        Ok(figures)
    }

    async fn gather(&self, ctx: &Context, zone: &TimeZone) -> Result<Figures, Problem> {
        let now = ctx.clock.now();
        let rules = ctx.rules();
        let caps: Vec<(String, u64)> =
            rules.rules.iter().map(|rule| (rule.name.to_string(), rule.limits.deletes_per_day)).collect();
        let spans = spans(now, zone);
        let known = self.over(spans.first().map(|span| span.from));
        let read = ctx.store.read(move |db| {
            let mut days = Vec::new();
            for span in spans {
                let day = match known.get(&span.from) {
                    Some(day) => *day,
                    None => Day {
                        date: span.date,
                        events: days::events(db, span.from, span.to)?,
                        deleted: days::deleted(db, span.from, span.to)?,
                    },
                };
                days.push((span, day));
            }
            Ok((
                Figures {
                    events: events::counts(db)?,
                    jobs: jobs::counts(db)?,
                    due: jobs::due_summary(db, now)?,
                    paused: control::paused(db)?,
                    stop: control::portal_stop(db)?,
                    last_error: control::last_error(db)?,
                    silent: control::silent_since(db)?,
                    gaps: events::open_gaps(db)?,
                    capped: jobs::capped_rules(db, now, &caps)?,
                    held: runs::all_held(db)?,
                    states: runs::all_rule_states(db)?,
                    days: Vec::new(),
                },
                days,
            ))
        });
        let (mut figures, days) = in_time(read).await?;
        self.remember(&days, now);
        figures.days = days.into_iter().map(|(_, day)| day).collect();
        Ok(figures)
    }

    fn over(&self, oldest: Option<Timestamp>) -> BTreeMap<Timestamp, Day> {
        let mut days = self.days.lock().unwrap_or_else(PoisonError::into_inner);
        days.retain(|from, _| oldest.is_some_and(|oldest| *from >= oldest));
        days.clone()
    }

    fn remember(&self, days: &[(DaySpan, Day)], now: Timestamp) {
        let over = days.iter().filter(|(span, _)| span.to <= now).map(|(span, day)| (span.from, *day));
        self.days.lock().unwrap_or_else(PoisonError::into_inner).extend(over);
    }
}

/// A day's first moment and the next day's.
#[derive(Clone, Copy)]
struct DaySpan {
    date: Date,
    from: Timestamp,
    to: Timestamp,
}

/// The last [`DAYS`] days in a zone, today last. A day may have 23 or 25 hours.
fn spans(now: Timestamp, zone: &TimeZone) -> Vec<DaySpan> {
    let today = now.to_zoned_datetime(zone.clone());
    let day = |back: i32| {
        let day = today.checked_sub(Span::new().days(back)).ok()?.start_of_day().ok()?;
        let next = day.tomorrow().ok()?.start_of_day().ok()?;
        Some(DaySpan { date: day.date(), from: day.timestamp(), to: next.timestamp() })
    };
    (0..DAYS).rev().filter_map(day).collect()
}
