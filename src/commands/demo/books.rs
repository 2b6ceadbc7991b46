//! The demo's books: what should happen, kept by plain code that shares nothing with the matcher, against what the
//! simulated portal and the job table say did happen.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::stage::Stage;
use crate::commands::failure::Failure;
use crate::core::outcome::Outcome;
use crate::sandbox::Lead;
use crate::store::JobId;
use crate::store::jobs::{self, Job, JobCounts, JobFilter};

/// Rows read at a time.
const PAGE: u32 = 1000;
/// How many leads colleagues revive, and delete by hand, before the deletions begin.
const REVIVED: usize = 4;
const BY_HAND: usize = 3;
/// How many callback requests arrive.
const SPAM: usize = 20;

/// What is expected.
pub(super) struct Books {
    leads_at_first: usize,
    old_junk: BTreeSet<u32>,
    pub revived: Vec<u32>,
    pub by_hand: Vec<u32>,
    pub vetoed: Vec<u32>,
    pub spam: Vec<u32>,
    rich_spam: Vec<u32>,
}

fn is_old_junk(lead: &Lead, now: i64) -> bool {
    &*lead.stage == "JUNK" && lead.created <= now - 90 * 86_400 && lead.opportunity <= 0.0
}

impl Books {
    /// Counts before anything happens.
    pub(super) fn open(stage: &Stage) -> Books {
        let at = stage.began.as_second() + 3;
        Books {
            leads_at_first: stage.portal.lead_count(),
            old_junk: stage.portal.ids_where(|lead| is_old_junk(lead, at)).into_iter().collect(),
            revived: Vec::new(),
            by_hand: Vec::new(),
            vetoed: Vec::new(),
            spam: Vec::new(),
            rich_spam: Vec::new(),
        }
    }

    /// Leads by stage, for a table.
    pub(super) fn by_stage(&self, stage: &Stage) -> Vec<Vec<String>> {
        let mut counts: BTreeMap<String, u64> = BTreeMap::new();
        for lead in stage.portal.leads() {
            *counts.entry(lead.stage.to_string()).or_default() += 1;
        }
        counts.into_iter().map(|(stage, count)| vec![stage, count.to_string()]).collect()
    }

    /// Colleagues revive, delete and veto some of the leads whose deletion is enqueued.
    pub(super) fn colleagues_act(&mut self, stage: &Stage) {
        let mut picked = self.old_junk.iter().copied().step_by(7);
        self.revived = picked.by_ref().take(REVIVED).collect();
        self.by_hand = picked.by_ref().take(BY_HAND).collect();
        self.vetoed = picked.take(1).collect();
        let now = stage.portal.now().as_second();
        for id in &self.revived {
            stage.portal.colleague_update(*id, |lead| lead.move_to("IN_PROCESS", now));
        }
        for id in &self.by_hand {
            stage.portal.colleague_delete(*id);
        }
        for id in &self.vetoed {
            stage.portal.veto(*id, "This lead is under audit");
        }
    }

    /// Callback requests arrive, marked as junk; one is worth something.
    pub(super) fn spam_arrives(&mut self, stage: &Stage) {
        for number in 0..SPAM {
            let mut lead = Lead::new(&format!("Call me back {number}"), stage.portal.now());
            lead.move_to("JUNK", stage.portal.now().as_second());
            lead.source = "CALLBACK".into();
            if number == SPAM / 2 {
                lead.opportunity = 1500.0;
            }
            let rich = lead.opportunity > 0.0;
            let id = stage.portal.add_lead(lead);
            self.spam.push(id);
            if rich {
                self.rich_spam.push(id);
            }
        }
    }

    /// Compares.
    pub(super) async fn close(&self, stage: &Stage) -> Result<Report, Failure> {
        let all = all_jobs(stage).await?;
        let counts = stage.store().read(jobs::counts).await?;
        let mut groups: BTreeMap<(String, Outcome), Group> = BTreeMap::new();
        for job in &all {
            let Some(outcome) = job.outcome else { continue };
            let why = job.why();
            let group = groups.entry((job.rule.clone(), outcome)).or_insert_with(|| Group {
                rule: job.rule.clone(),
                outcome,
                jobs: 0,
                lead: job.lead_id.get(),
                why,
            });
            group.jobs += 1;
        }
        let of = |outcome: Outcome| -> BTreeSet<u32> {
            all.iter().filter(|job| job.outcome == Some(outcome)).map(|job| job.lead_id.get()).collect()
        };
        let stats = stage.portal.stats();
        let by_us: BTreeSet<u32> = stats
            .deletions
            .iter()
            .filter(|deletion| deletion.by != "colleague")
            .map(|deletion| deletion.id)
            .collect();
        let mut expected: BTreeSet<u32> = self.old_junk.iter().chain(&self.spam).copied().collect();
        for kept in self.revived.iter().chain(&self.by_hand).chain(&self.vetoed).chain(&self.rich_spam) {
            expected.remove(kept);
        }
        Ok(Report {
            groups: groups.into_values().collect(),
            finished: counts.total() - counts.waiting - counts.running,
            deleted_by_jobs: of(Outcome::Deleted).len(),
            deleted_by_portal: by_us.len(),
            expected: expected.len(),
            same_leads: of(Outcome::Deleted) == by_us && by_us == expected,
            gone_by_hand: of(Outcome::AlreadyGone) == self.by_hand.iter().copied().collect(),
            spared: of(Outcome::Spared) == self.revived.iter().copied().collect(),
            refused: of(Outcome::Failed) == self.vetoed.iter().copied().collect(),
            leads_at_first: self.leads_at_first,
            leads_added: self.spam.len(),
            leads_by_hand: self.by_hand.len(),
            leads_left: stage.portal.lead_count(),
            over_limit: stats.refused_503 + stats.refused_429,
            requests: stats.requests,
            counts,
        })
    }
}

async fn all_jobs(stage: &Stage) -> Result<Vec<Job>, Failure> {
    let mut all: Vec<Job> = Vec::new();
    loop {
        let after: Option<JobId> = all.last().map(|job| job.id);
        let filter = JobFilter { after, limit: PAGE, ..JobFilter::default() };
        let page = stage.store().read(move |db| jobs::list(db, &filter)).await?;
        let last = page.len() < PAGE as usize;
        all.extend(page);
        if last {
            return Ok(all);
        }
    }
}

/// Jobs that ended alike.
#[derive(Serialize)]
struct Group {
    rule: String,
    outcome: Outcome,
    jobs: u64,
    lead: u32,
    why: String,
}

/// The books, closed.
#[derive(Serialize)]
pub(super) struct Report {
    groups: Vec<Group>,
    counts: JobCounts,
    finished: u64,
    deleted_by_jobs: usize,
    deleted_by_portal: usize,
    expected: usize,
    same_leads: bool,
    gone_by_hand: bool,
    spared: bool,
    refused: bool,
    leads_at_first: usize,
    leads_added: usize,
    leads_by_hand: usize,
    leads_left: usize,
    requests: u64,
    over_limit: u64,
}

impl Report {
    /// The rows of the table of outcomes.
    pub(super) fn rows(&self) -> Vec<Vec<String>> {
        self.groups
            .iter()
            .map(|group| {
                let Group { rule, outcome, jobs, lead, why } = group;
                vec![
                    rule.clone(),
                    outcome.as_str().to_owned(),
                    jobs.to_string(),
                    format!("lead {lead}"),
                    why.clone(),
                ]
            })
            .collect()
    }

    /// The sums, each with whether it holds.
    pub(super) fn sums(&self) -> Vec<String> {
        let c = &self.counts;
        let tick = |holds: bool| if holds { "ok " } else { "NOT" };
        vec![
            format!(
                "{} jobs: {} finished = {} deleted + {} already gone + {} spared + {} cancelled + {} failed",
                tick(self.jobs_add_up()),
                self.finished,
                c.deleted,
                c.already_gone,
                c.spared,
                c.cancelled,
                c.failed
            ),
            format!(
                "{} the portal's own books: {} deletions by us, the same leads as our {} jobs and as the {} a plain query picks",
                tick(self.same_leads),
                self.deleted_by_portal,
                self.deleted_by_jobs,
                self.expected
            ),
            format!(
                "{} leads: {} at first + {} arrived - {} deleted by us - {} by hand = {} left",
                tick(self.leads_add_up()),
                self.leads_at_first,
                self.leads_added,
                self.deleted_by_portal,
                self.leads_by_hand,
                self.leads_left
            ),
            format!(
                "{} revived ones are spared, those gone by hand are already_gone, the vetoed one failed",
                tick(self.gone_by_hand && self.spared && self.refused)
            ),
            format!(
                "{} {} requests, {} refused by the portal's limits",
                tick(self.over_limit == 0),
                self.requests,
                self.over_limit
            ),
        ]
    }

    fn jobs_add_up(&self) -> bool {
        let c = &self.counts;
        self.finished == c.deleted + c.already_gone + c.spared + c.cancelled + c.failed
            && c.waiting + c.running == 0
    }

    fn leads_add_up(&self) -> bool {
        self.leads_at_first + self.leads_added
            == self.leads_left + self.deleted_by_portal + self.leads_by_hand
    }

    /// Whether all of it holds.
    pub(super) fn is_right(&self) -> bool {
        self.jobs_add_up()
            && self.leads_add_up()
            && self.same_leads
            && self.gone_by_hand
            && self.spared
            && self.refused
            && self.over_limit == 0
    }
}
