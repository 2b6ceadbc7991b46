//! What people are told without having asked, in which words, and how often at most.
//!
//! The invariant: a notice holds ids, counts, names of rules and words of the portal's error codes; no text of a lead
//! and no secret ever gets into one, since it leaves for places that were not made for either.

use jiff::{SignedDuration, Timestamp};

use super::figure::thousands;

/// Notices of one kind to one target are at least this far apart: a person reads one at a time.
pub const APART: SignedDuration = SignedDuration::from_mins(1);

/// The most notices a target gets in [`WINDOW`]: beyond that nobody reads them any more.
pub const IN_WINDOW: usize = 20;

/// What [`IN_WINDOW`] counts over.
pub const WINDOW: SignedDuration = SignedDuration::from_hours(1);

/// How long a notice is tried: what is older than a day is no news.
pub const TRIED_FOR: SignedDuration = SignedDuration::from_hours(24);

/// The longest word of an error code that is told: the portal's longest has 26 characters.
const LONGEST_CODE: usize = 40;

/// A kind of thing to tell; a target says which it wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Occasion {
    /// A run is held and waits for a person.
    Held,
    /// A run by schedule or by hand has ended.
    Finished,
    /// The portal refuses every call.
    Stopped,
    /// The rules were not reloaded.
    ReloadFailed,
    /// No event has come for longer than the silence alarm.
    Silence,
}

impl Occasion {
    /// All of them, in the order of the reference.
    pub const ALL: [Occasion; 5] =
        [Occasion::Held, Occasion::Finished, Occasion::Stopped, Occasion::ReloadFailed, Occasion::Silence];

    /// The word in rules, in the database and in notices.
    pub fn as_str(self) -> &'static str {
        match self {
            Occasion::Held => "held",
            Occasion::Finished => "finished",
            Occasion::Stopped => "stopped",
            Occasion::ReloadFailed => "reload_failed",
            Occasion::Silence => "silence",
        }
    }

    /// The occasion of that word.
    pub fn parse(word: &str) -> Option<Occasion> {
        Occasion::ALL.into_iter().find(|occasion| occasion.as_str() == word)
    }

    /// The subject of a notice.
    pub fn title(self) -> &'static str {
        match self {
            Occasion::Held => "a run is held",
            Occasion::Finished => "a run has ended",
            Occasion::Stopped => "the portal refuses every call",
            Occasion::ReloadFailed => "the rules were not reloaded",
            Occasion::Silence => "no events come",
        }
    }
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// It only reported.
    Planned,
    /// It enqueued.
    Enqueued,
    /// It enqueued nothing because something went wrong.
    Failed,
    /// It was held, and nobody approved it in time.
    Expired,
    /// It was held, and a later run replaced it.
    Superseded,
    /// The process that made it ended before it did.
    Interrupted,
}

/// A thing that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Happening {
    /// A run is held.
    Held {
        /// The run.
        run: i64,
        /// Its rule.
        rule: String,
        /// How many leads it would enqueue.
        leads: u64,
        /// When that many: a notice may arrive hours later, and events may join a held run.
        at: Timestamp,
    },
    /// A run has ended.
    Finished {
        /// The run.
        run: i64,
        /// Its rule.
        rule: String,
        /// How.
        ended: Ended,
        /// What it selected, before protections.
        matched: u64,
        /// Of these, protected ones.
        protected: u64,
        /// What could not be judged.
        undecidable: u64,
        /// Of the matched, those that have a job already.
        waiting: u64,
        /// Jobs made, or that would be.
        leads: u64,
    },
    /// The portal refuses every call.
    Stopped {
        /// Its error code.
        code: String,
        /// Whether only a person ends it.
        needs_person: bool,
    },
    /// The rules were not reloaded.
    ReloadFailed {
        /// How many mistakes there are.
        problems: u64,
    },
    /// No event comes.
    Silence {
        /// Since when.
        since: Timestamp,
    },
}

impl Happening {
    /// Its kind.
    pub fn occasion(&self) -> Occasion {
        match self {
            Happening::Held { .. } => Occasion::Held,
            Happening::Finished { .. } => Occasion::Finished,
            Happening::Stopped { .. } => Occasion::Stopped,
            Happening::ReloadFailed { .. } => Occasion::ReloadFailed,
            Happening::Silence { .. } => Occasion::Silence,
        }
    }

    /// The run and the rule that it is about.
    pub fn run(&self) -> Option<(i64, &str)> {
        match self {
            Happening::Held { run, rule, .. } | Happening::Finished { run, rule, .. } => Some((*run, rule)),
            Happening::Stopped { .. } | Happening::ReloadFailed { .. } | Happening::Silence { .. } => None,
        }
    }

    /// How many leads, or mistakes, it is about; 0 where it is about none.
    pub fn count(&self) -> u64 {
        match self {
            Happening::Held { leads, .. } | Happening::Finished { leads, .. } => *leads,
            Happening::ReloadFailed { problems } => *problems,
            Happening::Stopped { .. } | Happening::Silence { .. } => 0,
        }
    }

    /// It in a sentence or two, with what to do.
    ///
    /// ```
    /// use b24_janitor::core::notice::Happening;
    ///
    /// let at = "2026-11-25T03:15:00Z".parse().unwrap();
    /// let held = Happening::Held { run: 7, rule: "old-junk".into(), leads: 319, at };
    /// assert!(held.text().contains("`b24-janitor approve 7 --count 319`"));
    /// ```
    pub fn text(&self) -> String {
        match self {
            Happening::Held { run, rule, leads, at } => format!(
                "Run {run} of rule {rule} is held: at {} {} waited for a person. Look at them with \
                 `b24-janitor plan {rule}`, then `b24-janitor approve {run} --count {leads}`; after 24 hours the run expires.",
                whole(*at),
                counted(*leads, "lead")
            ),
            Happening::Finished { run, rule, ended, matched, protected, undecidable, waiting, leads } => {
                let kept = format!(
                    "{} matched, {} protected, {} waiting already, {} undecidable",
                    counted(*matched, "lead"),
                    thousands(*protected),
                    thousands(*waiting),
                    thousands(*undecidable)
                );
                match ended {
                    Ended::Planned => {
                        format!("Run {run} of rule {rule} would delete {}: {kept}.", counted(*leads, "lead"))
                    }
                    Ended::Enqueued => {
                        format!("Run {run} of rule {rule} enqueued {}: {kept}.", counted(*leads, "deletion"))
                    }
                    Ended::Failed => format!(
                        "Run {run} of rule {rule} failed and enqueued nothing: `b24-janitor runs` says why."
                    ),
                    Ended::Expired => format!(
                        "Run {run} of rule {rule} was held for 24 hours and nobody approved it: it has failed, and {} stay \
                         as they are.",
                        counted(*leads, "lead")
                    ),
                    Ended::Superseded => format!(
                        "Run {run} of rule {rule} was held and a later run of the rule replaces it: it enqueued nothing and \
                         can't be approved any more."
                    ),
                    Ended::Interrupted => format!(
                        "Run {run} of rule {rule} was interrupted by a restart and enqueued nothing; the rule's next run \
                         finds its leads again."
                    ),
                }
            }
            Happening::Stopped { code, needs_person } => {
                let goes_on = if *needs_person {
                    "a person has to resume it"
                } else {
                    "it goes on by itself when the portal answers again"
                };
                format!(
                    "The portal refuses every call ({}): deletions wait, nothing is lost, {goes_on}. `b24-janitor status` \
                     says what to do.",
                    plain(code)
                )
            }
            Happening::ReloadFailed { problems } => format!(
                "The rules were not reloaded: {}. The old rules stay in force; `b24-janitor check` says what is wrong.",
                counted(*problems, "problem")
            ),
            Happening::Silence { since } => format!(
                "No event has come since {}: rules with events sweep once. Look at the portal's outgoing webhook and at \
                 what stands between the portal and this service.",
                whole(*since)
            ),
        }
    }
}

fn counted(count: u64, what: &str) -> String {
    if count == 1 { format!("1 {what}") } else { format!("{} {what}s", thousands(count)) }
}

fn whole(at: Timestamp) -> Timestamp {
    Timestamp::from_second(at.as_second()).unwrap_or(at)
}

/// An error code as it may be told: a word, or that there is none. A server could put anything there.
fn plain(code: &str) -> &str {
    let is_word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '<' | '>' | ' ');
    if !code.is_empty() && code.len() <= LONGEST_CODE && code.chars().all(is_word) {
        code
    } else {
        "another error"
    }
}

/// A notice as it is sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Letter {
    /// Which notice it is: the same at every try, another for every other notice and target.
    pub id: String,
    /// Which portal it is about.
    pub portal: String,
    /// Its kind in a word: that of an [`Occasion`], or `test`.
    pub occasion: &'static str,
    /// What it is about, in a few words.
    pub title: String,
    /// What happened, and how many more of its kind did.
    pub text: String,
    /// The rule that it is about, or nothing.
    pub rule: String,
    /// The run that it is about, or 0.
    pub run: i64,
    /// How many leads or mistakes it is about.
    pub count: u64,
    /// When it happened.
    pub at: Timestamp,
}

impl Letter {
    /// The occasion of a notice that only shows that notices arrive.
    pub const TEST: &'static str = "test";

    /// A notice that only shows that notices arrive.
    pub fn test(portal: &str, target: &str, at: Timestamp) -> Letter {
        Letter {
            id: format!("{target}.test.{}", at.as_millisecond()),
            portal: portal.to_owned(),
            occasion: Letter::TEST,
            title: titled(portal, "a test"),
            text: format!("Notices of b24-janitor reach {target}. Nothing happened: this is a test."),
            rule: String::new(),
            run: 0,
            count: 0,
            at: whole(at),
        }
    }

    /// A notice of what happened; `more` of its kind happened after it. The first argument names the
    /// target, and the notice by its number among those stored.
    pub fn of(
        (target, number): (&str, i64),
        portal: &str,
        occasion: Occasion,
        told: (String, String, i64, u64),
        at: Timestamp,
        more: u64,
    ) -> Letter {
        let (text, rule, run, count) = told;
        let text =
            if more == 0 { text } else { format!("{text} And {} more of this kind since.", thousands(more)) };
        let title = titled(portal, occasion.title());
        Letter {
            id: format!("{target}.{number}.{}", at.as_millisecond()),
            portal: portal.to_owned(),
            occasion: occasion.as_str(),
            title,
            text,
            rule,
            run,
            count,
            at: whole(at),
        }
    }
}

fn titled(portal: &str, what: &str) -> String {
    if portal.is_empty() { format!("b24-janitor: {what}") } else { format!("b24-janitor, {portal}: {what}") }
}

/// When the next notice of a kind may go to a target: when it is due, [`APART`] from the last of its kind, and with at
/// most [`IN_WINDOW`] of all kinds in any [`WINDOW`]. `sent` are the target's notices of the last window, oldest first.
pub fn not_before(due: Timestamp, last_of_kind: Option<Timestamp>, sent: &[Timestamp]) -> Timestamp {
    let later = |at: Timestamp, by: SignedDuration| at.checked_add(by).unwrap_or(Timestamp::MAX);
    let apart = last_of_kind.map_or(Timestamp::MIN, |at| later(at, APART));
    let full = sent.len().checked_sub(IN_WINDOW).and_then(|first| sent.get(first));
    let room = full.map_or(Timestamp::MIN, |at| later(*at, WINDOW));
    due.max(apart).max(room)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn t(second: i64) -> Timestamp {
        Timestamp::from_second(1_780_000_000 + second).unwrap()
    }

    #[test]
    fn a_code_that_is_no_word_is_not_told() {
        let told = |code: &str| Happening::Stopped { code: code.to_owned(), needs_person: false }.text();
        assert!(told("INVALID_CREDENTIALS").contains("(INVALID_CREDENTIALS)"));
        assert!(told("Ivan Petrov, +7 900").contains("(another error)"));
        assert!(told(&"X".repeat(41)).contains("(another error)"));
    }

    #[test]
    fn what_was_summed_up_is_counted_in_the_text() {
        let letter = |more| {
            let told = ("Something.".to_owned(), "junk".to_owned(), 3, 4);
            Letter::of(("ops", 1), "acme.bitrix24.com", Occasion::Held, told, t(0), more)
        };
        assert_eq!(letter(0).text, "Something.");
        assert_eq!(letter(7).text, "Something. And 7 more of this kind since.");
        assert_eq!(letter(1700).text, "Something. And 1,700 more of this kind since.");
        let held = Happening::Held { run: 3, rule: "junk".to_owned(), leads: 12_345, at: t(0) };
        assert!(held.text().contains("12,345 leads waited") && held.text().contains("--count 12345`"));
        assert_eq!(letter(0).title, "b24-janitor, acme.bitrix24.com: a run is held");
    }

    proptest! {
        /// However notices come, a target gets one of a kind a minute and twenty an hour.
        #[test]
        fn the_limits_hold_whatever_comes(comes in prop::collection::vec((0i64..30, 0usize..5), 0..200)) {
            let mut now = 0;
            let mut sent: Vec<(Timestamp, usize)> = Vec::new();
            for (later, kind) in comes {
                now += later;
                let times: Vec<Timestamp> = sent.iter().map(|(at, _)| *at)
                    .filter(|at| t(now).duration_since(*at) < WINDOW).collect();
                let last = sent.iter().rev().find(|(_, of)| *of == kind).map(|(at, _)| *at);
                let at = not_before(t(now), last, &times);
                prop_assert!(at >= t(now));
                if at == t(now) {
                    sent.push((at, kind));
                }
            }
            for (index, (at, kind)) in sent.iter().enumerate() {
                let since = sent.iter().skip(index).filter(|(other, _)| other.duration_since(*at) < WINDOW);
                prop_assert!(since.count() <= IN_WINDOW);
                let twin = sent.iter().skip(index + 1).find(|(_, of)| of == kind);
                prop_assert!(twin.is_none_or(|(other, _)| other.duration_since(*at) >= APART));
            }
        }
    }
}
