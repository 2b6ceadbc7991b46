//! Reads the leads of a portal that a rule may select, and judges every one of them. The same code serves `plan` and
//! the run that enqueues; a survey deletes nothing and enqueues nothing.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::context::{Context, EngineError};
use crate::core::decide::{Verdict, decide, fields_needed, reason};
use crate::core::filter::server_filter;
use crate::core::lead::{Lead, LeadId};
use crate::core::rule::{Rule, RuleSet};
use crate::portal::Page;

/// How many selected leads a plan shows.
const SAMPLE: usize = 10;

/// The most pages read in one request and kept in memory at a time: as many as a batch has commands.
const PAGES: usize = 50;

/// What a rule selects at one moment, before our own protections and caps.
#[derive(Debug, Default)]
pub struct Survey {
    /// Leads that the rule selects and nothing in the rules protects, ascending.
    pub selected: Vec<LeadId>,
    /// Leads that the rule selects but a protection covers.
    pub protected: u64,
    /// Leads whose data do not say whether the rule selects them; kept.
    pub undecidable: u64,
    /// Leads that the portal returned and our matcher refused on a text: kept.
    pub left_out: u64,
    /// Counts of the selected leads.
    pub breakdown: Breakdown,
    /// The first selected leads.
    pub sample: Vec<SampleLead>,
    /// The first selected leads, as many as were asked for, without a reason.
    pub listed: Vec<PlannedLead>,
}

/// Counts of selected leads by what administrators think in.
#[derive(Debug, Default, Clone, Serialize, Deserialize)]
pub struct Breakdown {
    /// By `stageId`.
    pub by_stage: BTreeMap<String, u64>,
    /// By `sourceId`.
    pub by_source: BTreeMap<String, u64>,
    /// By `assignedById`.
    pub by_responsible: BTreeMap<String, u64>,
}

/// One selected lead as a plan shows it: no personal data.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SampleLead {
    /// Its id.
    pub id: LeadId,
    /// Its stage.
    pub stage: String,
    /// When it was created, as the portal writes it.
    pub created: String,
    /// Why the rule selects it.
    pub reason: String,
}

/// One selected lead in a list of all: no personal data.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct PlannedLead {
    /// Its id.
    pub id: LeadId,
    /// Its stage.
    pub stage: String,
    /// When it was created, as the portal writes it.
    pub created: String,
    /// The id of the user who is responsible for it.
    pub responsible: String,
}

/// A lead that was read and is kept by the rule.
pub struct Kept {
    /// The lead.
    pub lead: LeadId,
    /// Why.
    pub reason: String,
}

/// Lists and judges. The first `listed` selected leads are kept for a list. `page_done` hears of the kept leads of each page, with their reasons, and how many leads were
/// read so far.
pub async fn survey<Done, Told>(
    ctx: &Context,
    rules: &RuleSet,
    rule: &Rule,
    now: Timestamp,
    listed: usize,
    mut page_done: Done,
) -> Result<Survey, EngineError>
where
    Done: FnMut(Vec<Kept>, u64) -> Told,
    Told: Future<Output = Result<(), EngineError>>,
{
    let filter = server_filter(rule, now);
    let select = fields_needed(rule, &rules.protections);
    let mut survey = Survey::default();
    let mut after = None;
    let mut read = 0;
    loop {
        if ctx.stop.is_cancelled() {
            return Err(EngineError::Stopping);
        }
        // A listing may wait minutes for its operating budget, and nothing is lost with it. What patience has to say of
        // the stop comes first: it knows the error.
        let Page { leads, last } = tokio::select! {
            biased;
            page = ctx.patiently(|| ctx.portal.list_chain(&filter.json, after, &select, PAGES)) => page?,
            () = ctx.stop.cancelled() => return Err(EngineError::Stopping),
        };
        let mut kept = Vec::new();
        for lead in &leads {
            if let Some(judged) = filter.contradicted_by(lead) {
                return Err(EngineError::FilterNotHonoured { lead: lead.id, clause: judged.clause() });
            }
            if !survey.judge(rules, rule, lead, now, listed) {
                let verdict = decide(rule, &rules.protections, lead, now);
                kept.push(Kept { lead: lead.id, reason: reason(rule, verdict, lead, now) });
            }
        }
        read += leads.len() as u64;
        after = leads.last().map(|lead| lead.id).or(after);
        page_done(kept, read).await?;
        if last {
            return Ok(survey);
        }
    }
}

impl Survey {
    /// Judges one lead and counts it; whether it is selected.
    fn judge(&mut self, rules: &RuleSet, rule: &Rule, lead: &Lead, now: Timestamp, listed: usize) -> bool {
        match decide(rule, &rules.protections, lead, now) {
            Verdict::Delete => {
                self.selected.push(lead.id);
                self.breakdown.count(lead);
                if self.sample.len() < SAMPLE {
                    self.sample.push(SampleLead {
                        id: lead.id,
                        stage: shown(lead, "stageId"),
                        created: shown(lead, "createdTime"),
                        reason: reason(rule, Verdict::Delete, lead, now),
                    });
                }
                if self.listed.len() < listed {
                    self.listed.push(PlannedLead {
                        id: lead.id,
                        stage: shown(lead, "stageId"),
                        created: shown(lead, "createdTime"),
                        responsible: shown(lead, "assignedById"),
                    });
                }
                return true;
            }
            Verdict::Protected(_) => self.protected += 1,
            Verdict::Undecidable => self.undecidable += 1,
            Verdict::NoMatch => self.left_out += 1,
        }
        false
    }
}

impl Breakdown {
    fn count(&mut self, lead: &Lead) {
        for (map, field) in [
            (&mut self.by_stage, "stageId"),
            (&mut self.by_source, "sourceId"),
            (&mut self.by_responsible, "assignedById"),
        ] {
            *map.entry(shown(lead, field)).or_default() += 1;
        }
    }
}

fn shown(lead: &Lead, field: &str) -> String {
    match lead.get(field) {
        Some(Value::String(text)) if text.is_empty() => "(none)".to_owned(),
        Some(Value::String(text)) => text.clone(),
        Some(Value::Null) | None => "(none)".to_owned(),
        Some(other) => other.to_string(),
    }
}
