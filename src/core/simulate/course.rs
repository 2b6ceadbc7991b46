//! The course of a simulation: runs and due jobs in the order of time, over leads whose standings change as they age.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, HashMap, VecDeque};

use jiff::{SignedDuration, Span, Timestamp};

use super::standing::{Change, Histories, Standing};
use super::{Day, Days, Forecast, Known, Window, after};
use crate::core::caps::{self, ANOMALY_WINDOW, Cap, DAY, HELD_FOR, MatchSet};
use crate::core::decide::whole_seconds;
use crate::core::lead::LeadId;
use crate::core::rule::{Rule, RuleSet};

/// What happens; of the same moment runs come first, since the jobs of a moment are due only after its runs have read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum What {
    Run,
    Due,
}

/// A job that waits.
#[derive(Debug, Clone, Copy)]
struct Waiting {
    rule: usize,
    due: Timestamp,
    number: u64,
}

/// One rule on its way through the days.
struct Track<'a> {
    place: usize,
    rule: &'a Rule,
    days: Days,
    told: Vec<Day>,
    /// What is to come of the standings.
    changes: std::slice::Iter<'a, Change>,
    standings: Vec<Standing>,
    /// Selected leads without a job.
    free: BTreeSet<u32>,
    /// Selected leads with a job, of whatever rule.
    taken: u64,
    protected: u64,
    undecidable: u64,
    /// Its jobs, by when they are due.
    jobs: BTreeSet<(Timestamp, u64, u32)>,
    /// Leads of its jobs that were not selected when they were last looked at.
    doubtful: BTreeSet<u32>,
    /// Its deletions of the last day, by moment, and how many they are.
    spent: VecDeque<(Timestamp, u64)>,
    spent_all: u64,
    earlier: VecDeque<u64>,
    held: Option<(Timestamp, String)>,
    /// Leads that the program protects from itself, until when.
    own: Vec<(u32, Timestamp)>,
}

/// All rules of a simulation, and the leads.
pub(super) struct Course<'a> {
    tracks: Vec<Track<'a>>,
    /// Leads that are there.
    readable: u64,
    gone: Vec<bool>,
    live: HashMap<u32, Waiting>,
    number: u64,
    /// The first moment, and the one after the last: those of the rules' days that lie furthest apart.
    from: Timestamp,
    until: Timestamp,
    agenda: BinaryHeap<Reverse<(Timestamp, What, usize)>>,
}

impl<'a> Course<'a> {
    /// The rules at these places of the set, before their first day.
    pub(super) fn new(
        rules: &'a RuleSet,
        places: &[usize],
        histories: &'a Histories,
        known: &Known,
        window: &Window,
    ) -> Course<'a> {
        let leads = histories.leads();
        let (from, until) = window.whole(rules);
        let of_lead =
            |lead: LeadId| leads.binary_search(&lead).ok().and_then(|place| u32::try_from(place).ok());
        let tracks: Vec<Track<'a>> = places
            .iter()
            .filter_map(|place| Some((*place, rules.rules.get(*place)?)))
            .map(|(place, rule)| {
                let own = known
                    .protections
                    .iter()
                    .filter(|own| own.rule.as_deref().is_none_or(|name| name == rule.name.as_str()))
                    .filter_map(|own| Some((of_lead(own.lead)?, own.until)));
                let mut longest: BTreeMap<u32, Timestamp> = BTreeMap::new();
                for (lead, until) in own {
                    let known = longest.entry(lead).or_insert(until);
                    *known = until.max(*known);
                }
                let days = window.days_of(rule);
                let of_rule = known.rules.get(rule.name.as_str()).cloned().unwrap_or_default();
                let mut deleted = of_rule.deleted;
                deleted.sort_unstable();
                Track {
                    place,
                    rule,
                    told: empty_days(&days, window.days),
                    days,
                    changes: histories.of_rule(place).iter(),
                    standings: vec![Standing::Away; leads.len()],
                    free: BTreeSet::new(),
                    taken: 0,
                    protected: 0,
                    undecidable: 0,
                    jobs: BTreeSet::new(),
                    doubtful: BTreeSet::new(),
                    spent_all: deleted.len() as u64,
                    spent: deleted.into_iter().map(|at| (at, 1)).collect(),
                    earlier: of_rule.earlier.into(),
                    held: of_rule.held,
                    own: longest.into_iter().collect(),
                }
            })
            .collect();
        let mut course = Course {
            tracks,
            readable: histories.readable(),
            gone: vec![false; leads.len()],
            live: HashMap::new(),
            number: 0,
            from,
            until,
            agenda: BinaryHeap::new(),
        };
        let mut jobs: Vec<_> = known.jobs.iter().collect();
        jobs.sort_by_key(|job| job.due);
        for job in jobs {
            // A job of a rule that is gone or only plans is spared when it is due: no rule deletes its lead.
            let track = course.tracks.iter().position(|track| track.rule.name.as_str() == job.rule);
            if let (Some(track), Some(lead)) = (track, of_lead(job.lead)) {
                course.take(track, lead, job.due);
            }
        }
        for place in 0..course.tracks.len() {
            course.first(place);
        }
        course
    }

    /// The first run and the first due jobs of a rule.
    fn first(&mut self, place: usize) {
        let Some(track) = self.tracks.get(place) else { return };
        let before = after(self.from, SignedDuration::from_nanos(-1));
        if let Some(at) = track.rule.schedule.next_fire(before) {
            self.agenda.push(Reverse((at, What::Run, place)));
        }
        let dues: BTreeSet<Timestamp> = track.jobs.iter().map(|(due, ..)| (*due).max(self.from)).collect();
        self.agenda.extend(dues.into_iter().map(|due| Reverse((due, What::Due, place))));
    }

    /// Lets all days pass.
    pub(super) fn run(mut self) -> Vec<(usize, Forecast)> {
        while let Some(Reverse((at, what, place))) = self.agenda.pop() {
            if at >= self.until {
                break;
            }
            self.age(at);
            match what {
                What::Run => self.evaluate(place, at),
                What::Due => self.delete_due(place, at),
            }
        }
        self.tracks.into_iter().map(|track| (track.place, track.forecast())).collect()
    }

    /// Brings every standing to the moment `at`.
    fn age(&mut self, at: Timestamp) {
        let second = whole_seconds(at).as_second();
        for (place, track) in self.tracks.iter_mut().enumerate() {
            while let Some(change) = track.changes.as_slice().first().filter(|change| change.at <= second) {
                track.changes.next();
                let gone = is(&self.gone, change.lead);
                let live = self.live.get(&change.lead);
                if !gone {
                    track.count(change.lead, live.is_some(), false);
                }
                if let Some(standing) = track.standings.get_mut(change.lead as usize) {
                    *standing = change.standing;
                }
                if !gone {
                    track.count(change.lead, live.is_some(), true);
                }
                if live.is_some_and(|job| job.rule == place) {
                    track.doubtful.insert(change.lead);
                }
            }
        }
    }

    /// One run of a rule: caps, then all of it or nothing.
    fn evaluate(&mut self, place: usize, at: Timestamp) {
        self.spare_doubtful(place);
        let readable = self.readable;
        let Some(track) = self.tracks.get_mut(place) else { return };
        if let Some(next) = track.rule.schedule.next_fire(at) {
            self.agenda.push(Reverse((next, What::Run, place)));
        }
        if let Some((_, why)) = track.held.clone().filter(|(held, _)| at <= after(*held, HELD_FOR)) {
            track.day(at, |day| day.held = Some(why));
            return;
        }
        track.own.retain(|(_, until)| *until > at);
        let selected = |lead: u32| track.standings.get(lead as usize) == Some(&Standing::Selected);
        let own: BTreeSet<u32> = track.own.iter().map(|(lead, _)| *lead).collect();
        let own_free = own.iter().filter(|lead| track.free.contains(lead)).count() as u64;
        let own_taken = own
            .iter()
            .filter(|lead| selected(**lead) && !is(&self.gone, **lead) && !track.free.contains(lead))
            .count() as u64;
        let mut set = MatchSet {
            would_enqueue: track.free.len() as u64 - own_free,
            already_waiting: track.taken.saturating_sub(own_taken),
            undecidable: track.undecidable,
            readable: None,
        };
        if caps::needs_readable(&set) {
            set.readable = Some(readable);
        }
        let (protected, undecidable) = (track.protected + own_free + own_taken, track.undecidable);
        let cap = caps::check(&track.rule.limits, &set, track.earlier.make_contiguous());
        track.day(at, |day| (day.protected, day.undecidable) = (protected, undecidable));
        match cap {
            Cap::Hold(reason) => {
                let why = reason.to_string();
                track.day(at, |day| day.held = Some(why.clone()));
                track.held = Some((at, why));
            }
            Cap::Proceed => {
                track.earlier.push_front(set.would_enqueue);
                track.earlier.truncate(ANOMALY_WINDOW);
                let due = track.rule.grace_period.after(at);
                let enqueued: Vec<u32> = track.free.difference(&own).copied().collect();
                if !enqueued.is_empty() {
                    self.agenda.push(Reverse((due, What::Due, place)));
                }
                for lead in enqueued {
                    self.take(place, lead, due);
                }
            }
        }
    }

    /// Deletes what is due of a rule, as far as its `deletes_per_day` goes.
    fn delete_due(&mut self, place: usize, at: Timestamp) {
        loop {
            let Some(track) = self.tracks.get_mut(place) else { return };
            while track.spent.front().is_some_and(|(spent, _)| after(*spent, DAY) <= at) {
                track.spent_all -= track.spent.pop_front().map_or(0, |(_, count)| count);
            }
            let Some((_, _, lead)) = track.jobs.first().copied().filter(|(due, ..)| *due <= at) else {
                return;
            };
            if track.spent_all >= track.rule.limits.deletes_per_day {
                if let Some((first, _)) = track.spent.front() {
                    self.agenda.push(Reverse((after(*first, DAY), What::Due, place)));
                }
                return;
            }
            let selected = track.standings.get(lead as usize) == Some(&Standing::Selected);
            if selected {
                track.day(at, |day| day.would_delete += 1);
                track.spent_all += 1;
                match track.spent.back_mut() {
                    Some((last, count)) if *last == at => *count += 1,
                    Some(_) | None => track.spent.push_back((at, 1)),
                }
            }
            // What no longer matches is spared, and stays.
            self.release(lead);
            if selected {
                self.remove(lead);
            }
        }
    }

    /// A run that sees the lead of a waiting job kept spares it at once.
    fn spare_doubtful(&mut self, place: usize) {
        let Some(track) = self.tracks.get_mut(place) else { return };
        let doubtful = std::mem::take(&mut track.doubtful);
        let kept: Vec<u32> = doubtful
            .into_iter()
            .filter(|lead| {
                matches!(
                    track.standings.get(*lead as usize),
                    Some(Standing::Protected | Standing::Undecidable)
                )
            })
            .collect();
        for lead in kept {
            self.release(lead);
        }
    }

    /// Gives a lead a job.
    fn take(&mut self, place: usize, lead: u32, due: Timestamp) {
        self.recount(lead, false);
        self.number += 1;
        self.live.insert(lead, Waiting { rule: place, due, number: self.number });
        if let Some(track) = self.tracks.get_mut(place) {
            track.jobs.insert((due, self.number, lead));
        }
        self.recount(lead, true);
    }

    /// Ends the job of a lead.
    fn release(&mut self, lead: u32) {
        self.recount(lead, false);
        if let Some(job) = self.live.remove(&lead)
            && let Some(track) = self.tracks.get_mut(job.rule)
        {
            track.jobs.remove(&(job.due, job.number, lead));
            track.doubtful.remove(&lead);
        }
        self.recount(lead, true);
    }

    /// The lead is deleted.
    fn remove(&mut self, lead: u32) {
        self.recount(lead, false);
        if let Some(gone) = self.gone.get_mut(lead as usize) {
            *gone = true;
            self.readable = self.readable.saturating_sub(1);
        }
    }

    /// Takes a lead out of every rule's counts, or puts it into them.
    fn recount(&mut self, lead: u32, counts: bool) {
        if is(&self.gone, lead) {
            return;
        }
        let live = self.live.contains_key(&lead);
        for track in &mut self.tracks {
            track.count(lead, live, counts);
        }
    }
}

fn is(set: &[bool], lead: u32) -> bool {
    set.get(lead as usize).copied().unwrap_or(false)
}

fn empty_days(days: &Days, count: u16) -> Vec<Day> {
    (0..i64::from(count))
        .map(|place| Day {
            date: days.first.saturating_add(Span::new().days(place)),
            would_delete: 0,
            protected: 0,
            undecidable: 0,
            held: None,
        })
        .collect()
}

impl Track<'_> {
    /// Counts a lead by its standing, or no longer.
    fn count(&mut self, lead: u32, live: bool, counts: bool) {
        let number = match self.standings.get(lead as usize).copied().unwrap_or(Standing::Away) {
            Standing::Away => return,
            Standing::Selected if live => &mut self.taken,
            Standing::Selected => {
                if counts {
                    self.free.insert(lead);
                } else {
                    self.free.remove(&lead);
                }
                return;
            }
            Standing::Protected => &mut self.protected,
            Standing::Undecidable => &mut self.undecidable,
        };
        *number = if counts { *number + 1 } else { number.saturating_sub(1) };
    }

    fn day(&mut self, at: Timestamp, change: impl FnOnce(&mut Day)) {
        if let Some(day) = self.days.place(at).and_then(|place| self.told.get_mut(place)) {
            change(day);
        }
    }

    fn forecast(self) -> Forecast {
        Forecast {
            rule: self.rule.name.to_string(),
            mode: self.rule.mode,
            total: self.told.iter().map(|day| day.would_delete).sum(),
            days: self.told,
            waiting: self.jobs.len() as u64,
        }
    }
}
