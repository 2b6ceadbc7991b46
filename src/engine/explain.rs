//! `explain`: one lead against every rule, and what the database knows of it. It reads one lead and changes nothing.
//!
//! The answer goes through the database beside a service, so it holds no personal data.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;

use super::context::{Context, EngineError};
use super::online::may_see_users;
use crate::core::decide::{self, whole_seconds};
use crate::core::lead::{Lead, LeadId};
use crate::core::outcome::Presence;
use crate::core::rule::{LeadEvent, Mode, Rule, RuleSet};
use crate::core::trace::{self, Names, ProtectionTrace, RuleTrace, Ruling};
use crate::portal::CallError;
use crate::rules;
use crate::store::events::EventLine;
use crate::store::jobs::{AttemptLine, Job, JobFilter, JobState};
use crate::store::protections::ProtectionReason;
use crate::store::restores::RestoreLine;
use crate::store::{JobId, RunId, copies, events, jobs, protections, restores, runs};

/// The latest jobs and events of a lead that are told: more are in `jobs --lead`.
const TOLD: u32 = 20;

/// Everything about one lead.
#[derive(Debug, Serialize)]
pub struct Explanation {
    /// The lead.
    pub lead_id: LeadId,
    /// When it was read and judged.
    pub at: Timestamp,
    /// `present`, `gone` (the portal has no such lead), `unreadable` or `unknown` (the portal did not answer).
    pub presence: &'static str,
    /// What the portal said, where it did not return the lead.
    pub portal_error: Option<String>,
    /// Its title: personal data, which goes no further than the page that shows it.
    #[serde(skip)]
    pub title: Option<String>,
    /// Its stage, as `stageId`.
    pub stage: Option<String>,
    /// What the portal calls that stage.
    pub stage_name: Option<String>,
    /// When it was created, as the portal writes it.
    pub created: Option<String>,
    /// Every rule against it; empty where the portal did not return it.
    pub rules: Vec<RuleExplained>,
    /// Every protection of the rules files against it.
    pub protections: Vec<ProtectionTrace>,
    /// Its latest jobs, the last first.
    pub jobs: Vec<JobExplained>,
    /// The copy that is kept of it, without its fields.
    pub copy: Option<CopyKept>,
    /// Its latest restores, the last first; also the one that created it.
    pub restores: Vec<RestoreLine>,
    /// Its latest events, the last first.
    pub events: Vec<EventLine>,
    /// The cases for a file of tests, where they were asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub test: Option<TestCases>,
}

/// One rule against the lead.
#[derive(Debug, Serialize)]
pub struct RuleExplained {
    /// The rule.
    pub rule: String,
    /// Whether it may delete.
    pub mode: Mode,
    /// Its conditions as they were judged, and the verdict.
    #[serde(flatten)]
    pub trace: RuleTrace,
    /// Why, in one clause, as histories have it.
    pub reason: String,
    /// Our own protection of the lead from this rule.
    pub own_protection: Option<OwnProtection>,
    /// The held run that keeps scheduled runs of this rule from starting.
    pub held_run: Option<RunId>,
    /// The next time of its schedule.
    pub next_run: Option<Timestamp>,
    /// Events of the lead that make the rule look at once.
    pub listens: Vec<LeadEvent>,
    /// When the deletion is or would be due: of a job of this rule that waits, else the next run and the grace period.
    pub due_at: Option<Timestamp>,
    /// The job of this rule that waits or runs.
    pub job: Option<JobId>,
}

/// A protection that the program gave the lead.
#[derive(Debug, Serialize)]
pub struct OwnProtection {
    /// Why.
    pub reason: ProtectionReason,
    /// Until when.
    pub until: Timestamp,
}

/// One job of the lead.
#[derive(Debug, Serialize)]
pub struct JobExplained {
    /// The job.
    #[serde(flatten)]
    pub job: Job,
    /// The deletions that were sent.
    pub sent: Vec<AttemptLine>,
}

/// That a copy of the lead is kept.
#[derive(Debug, Serialize)]
pub struct CopyKept {
    /// The job that it was made for.
    pub job_id: JobId,
    /// When the lead was read.
    pub taken_at: Timestamp,
    /// When its deletion became certain.
    pub deleted_at: Option<Timestamp>,
    /// Until when it is kept.
    pub expires_at: Timestamp,
}

/// Cases for a file of tests.
#[derive(Debug, Serialize)]
pub struct TestCases {
    /// `now` and `cases`.
    pub yaml: String,
    /// How many cases.
    pub cases: usize,
    /// What was replaced or left out.
    pub notes: Vec<String>,
}

/// Explains a lead by these rules. `as_test` asks for cases of a file of tests.
///
/// # Errors
/// When the database fails. A portal that does not answer is told in the explanation.
pub async fn explain(
    ctx: &Context,
    rules: &RuleSet,
    id: LeadId,
    as_test: bool,
) -> Result<Explanation, EngineError> {
    let found = read(ctx, rules, id).await;
    tell(ctx, rules, id, found, as_test).await
}

/// The same for a person who waits for a page: a portal that has not answered within `patience` is told as one that does
/// not.
///
/// # Errors
/// When the database fails.
pub async fn explain_within(
    ctx: &Context,
    rules: &RuleSet,
    id: LeadId,
    patience: Duration,
) -> Result<Explanation, EngineError> {
    let found = match tokio::time::timeout(patience, read(ctx, rules, id)).await {
        Ok(found) => found,
        Err(_) => Found::Not(format!("it has not answered for {} s", patience.as_secs())),
    };
    tell(ctx, rules, id, found, false).await
}

/// What the portal said of a lead.
enum Found {
    /// It was asked; with the names of what its conditions and the lead mention.
    Asked(Presence, Names),
    /// It did not answer; why.
    Not(String),
}

async fn read(ctx: &Context, rules: &RuleSet, id: LeadId) -> Found {
    match find(ctx, id).await {
        Ok(Presence::Present(lead)) => {
            let names = names(ctx, rules, &lead).await;
            Found::Asked(Presence::Present(lead), names)
        }
        Ok(other) => Found::Asked(other, Names::default()),
        Err(error) => Found::Not(format!("{}: {}", error.fault, error.remedy)),
    }
}

async fn tell(
    ctx: &Context,
    rules: &RuleSet,
    id: LeadId,
    found: Found,
    as_test: bool,
) -> Result<Explanation, EngineError> {
    let now = whole_seconds(ctx.clock.now());
    let known = known(ctx, rules, id, now).await?;
    let mut told = Explanation {
        lead_id: id,
        at: now,
        presence: "present",
        portal_error: None,
        title: None,
        stage: None,
        stage_name: None,
        created: None,
        rules: Vec::new(),
        protections: Vec::new(),
        jobs: known.jobs,
        copy: known.copy,
        restores: known.restores,
        events: known.events,
        test: None,
    };
    match found {
        Found::Asked(Presence::Present(lead), names) => {
            let text = |field: &str| lead.get(field).and_then(Value::as_str).map(str::to_owned);
            told.title = text("title");
            told.stage = text("stageId");
            told.stage_name = told.stage.as_ref().and_then(|code| names.stages.get(code).cloned());
            told.created = text("createdTime");
            told.protections = trace::protections(&rules.protections, &lead, now, &names);
            for rule in &rules.rules {
                let state = known.by_rule.get(rule.name.as_str());
                let judged = trace::rule(rule, &told.protections, &lead, now, &names);
                told.rules.push(explained(rules, rule, judged, &lead, now, state, known.live.as_ref()));
            }
            told.test = as_test.then(|| {
                let rules::SavedTests { yaml, cases, notes } = rules::save(rules, &lead, now);
                TestCases { yaml, cases, notes }
            });
        }
        Found::Asked(Presence::Gone, _) => told.presence = "gone",
        Found::Asked(Presence::Unreadable(fault), _) => {
            told.presence = "unreadable";
            told.portal_error = Some(fault.to_string());
        }
        Found::Not(why) => {
            told.presence = "unknown";
            told.portal_error = Some(why);
        }
    }
    Ok(told)
}

/// The lead as the last look before a deletion would read it; only `crm.item.get` says that there is none.
async fn find(ctx: &Context, id: LeadId) -> Result<Presence, CallError> {
    let found = match ctx.portal.leads_by_ids(&[id]).await {
        Ok(leads) => match leads.into_iter().next() {
            Some(lead) => return Ok(Presence::Present(lead)),
            None => ctx.portal.get(id).await,
        },
        Err(error) => Err(error),
    };
    if let Err(error) = &found {
        ctx.note(error).await;
    }
    found
}

/// Names are a help: without them codes and ids stand alone.
async fn names(ctx: &Context, rules: &RuleSet, lead: &Lead) -> Names {
    let stages = ctx.portal.stages().await.unwrap_or_default();
    let stages = stages.into_iter().map(|stage| (stage.id, stage.name)).collect();
    let mut ids = BTreeSet::new();
    let guards = rules.protections.iter().filter_map(|protection| protection.condition.as_ref());
    rules
        .rules
        .iter()
        .map(|rule| &rule.selection)
        .chain(guards)
        .for_each(|part| ids.extend(trace::users_in(part, lead)));
    let mut users = BTreeMap::new();
    // A call beyond the webhook's scope would only be refused.
    if !ids.is_empty() && ctx.portal.scopes().await.is_ok_and(|scopes| may_see_users(&scopes)) {
        let ids: Vec<i64> = ids.into_iter().collect();
        users = ctx.portal.users(&ids).await.unwrap_or_default();
    }
    Names { stages, users }
}

/// What the database knows of the lead.
struct Known {
    jobs: Vec<JobExplained>,
    live: Option<Job>,
    copy: Option<CopyKept>,
    restores: Vec<RestoreLine>,
    events: Vec<EventLine>,
    by_rule: BTreeMap<String, RuleKnown>,
}

#[derive(Clone, Copy)]
struct RuleKnown {
    own: Option<(ProtectionReason, Timestamp)>,
    held: Option<RunId>,
}

async fn known(ctx: &Context, rules: &RuleSet, id: LeadId, now: Timestamp) -> Result<Known, EngineError> {
    let names: Vec<String> = rules.rules.iter().map(|rule| rule.name.to_string()).collect();
    let read = ctx.store.read(move |db| {
        let filter = JobFilter { lead: Some(id), newest_first: true, limit: TOLD, ..JobFilter::default() };
        let mut told = Vec::new();
        for job in jobs::list(db, &filter)? {
            let sent = jobs::attempts_of(db, job.id)?;
            told.push(JobExplained { job, sent });
        }
        let mut by_rule = BTreeMap::new();
        for name in names {
            let own = protections::lead_protections(db, &[id], &name, now)?.remove(&id);
            let held = runs::held_run(db, &name)?.map(|run| run.id);
            by_rule.insert(name, RuleKnown { own: own.map(|own| (own.reason, own.until)), held });
        }
        let copy = copies::get(db, id)?.map(|copy| CopyKept {
            job_id: copy.job_id,
            taken_at: copy.taken_at,
            deleted_at: copy.deleted_at,
            expires_at: copy.expires_at,
        });
        let live = jobs::live_jobs(db, &[id])?.remove(&id);
        let restores = restores::of_lead(db, id, TOLD)?;
        Ok(Known { jobs: told, live, copy, restores, events: events::of_lead(db, id, TOLD)?, by_rule })
    });
    Ok(read.await?)
}

fn explained(
    rules: &RuleSet,
    rule: &Rule,
    trace: RuleTrace,
    lead: &Lead,
    now: Timestamp,
    state: Option<&RuleKnown>,
    live: Option<&Job>,
) -> RuleExplained {
    let verdict = decide::decide(rule, &rules.protections, lead, now);
    let own = state.and_then(|state| state.own);
    let next_run = rule.schedule.next_fire(now);
    let job = live.filter(|job| job.rule == rule.name.as_str());
    let would =
        trace.verdict == Ruling::Delete && rule.mode == Mode::Delete && own.is_none() && live.is_none();
    let due_at = match job {
        Some(job) if job.state == JobState::Waiting => Some(job.due_at),
        Some(_) => None,
        None if would => next_run.map(|run| rule.grace_period.after(run)),
        None => None,
    };
    RuleExplained {
        rule: rule.name.to_string(),
        mode: rule.mode,
        trace,
        reason: decide::reason(rule, verdict, lead, now),
        own_protection: own.map(|(reason, until)| OwnProtection { reason, until }),
        held_run: state.and_then(|state| state.held),
        next_run,
        listens: rule.events.iter().copied().collect(),
        due_at,
        job: job.map(|job| job.id),
    }
}
