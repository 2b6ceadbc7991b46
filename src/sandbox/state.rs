//! The portal's data behind one lock: leads, permissions, limits, faults, counters.
//!
//! Every change of a lead goes through [`State::insert`], [`State::finish_update`] or [`State::remove`], which keep
//! the times consistent and raise the event. The lock is never held across an await.

use std::collections::{BTreeMap, HashMap, HashSet};

use jiff::Timestamp;
use jiff::tz::Offset;

use super::events::{self, Outbox};
use super::faults::Faults;
use super::generate;
use super::lead::Lead;
use super::limits::{Bucket, Operating};
use super::oauth::Tokens;
use super::options::{Language, SandboxOptions};
use super::stats::{Deletion, Stats};

pub(super) struct State {
    pub(super) options: SandboxOptions,
    pub(super) leads: BTreeMap<u32, Lead>,
    next_lead: u32,
    next_contact: u32,
    /// Leads that a handler of `OnBeforeCrmLeadDelete` won't let go, with its text.
    pub(super) vetoes: HashMap<u32, String>,
    /// Leads that the webhook's user may read but not delete.
    pub(super) denied: HashSet<u32>,
    /// Leads that the webhook's user may not read.
    pub(super) hidden: HashSet<u32>,
    pub(super) tokens: Tokens,
    pub(super) bucket: Bucket,
    pub(super) operating: Operating,
    pub(super) faults: Faults,
    pub(super) outbox: Outbox,
    pub(super) stats: Stats,
}

impl State {
    pub(super) fn new(mut options: SandboxOptions, now: Timestamp) -> State {
        let leads: BTreeMap<u32, Lead> = generate::leads(options.leads, options.seed, now.as_second())
            .map(|lead| (lead.id, lead))
            .collect();
        let next_lead = leads.last_key_value().map_or(1, |(id, _)| id.saturating_add(1));
        let next_contact =
            leads.values().flat_map(|lead| &lead.contacts).map(|contact| contact.id).max().unwrap_or(0) + 1;
        let faults = Faults::new(std::mem::take(&mut options.faults), options.seed);
        State {
            options,
            leads,
            next_lead,
            next_contact,
            vetoes: HashMap::new(),
            denied: HashSet::new(),
            hidden: HashSet::new(),
            tokens: Tokens::default(),
            bucket: Bucket::default(),
            operating: Operating::default(),
            faults,
            outbox: Outbox::default(),
            stats: Stats::default(),
        }
    }

    /// The zone in which dates are written.
    pub(super) fn offset(&self) -> Offset {
        Offset::from_seconds(self.options.utc_offset_seconds).unwrap_or(Offset::UTC)
    }

    /// The text in the portal's language.
    pub(super) fn localised(&self, english: &str, russian: &str) -> String {
        match self.options.language {
            Language::English => english.to_owned(),
            Language::Russian => russian.to_owned(),
        }
    }

    /// Whether the webhook's user may read the lead.
    pub(super) fn readable(&self, lead: &Lead) -> bool {
        !self.hidden.contains(&lead.id)
            && (!self.options.restricted || lead.assigned_by == self.options.user_id)
    }

    /// Whether the webhook's user may delete the lead.
    pub(super) fn deletable(&self, lead: &Lead) -> bool {
        self.readable(lead) && !self.denied.contains(&lead.id)
    }

    /// Adds a lead; id 0 becomes the next id. Ids are never used twice.
    pub(super) fn insert(&mut self, lead: Lead, now: Timestamp) -> u32 {
        let id = self.place(lead);
        self.raise("ONCRMLEADADD", id, now);
        id
    }

    /// Like [`State::insert`], without an event.
    pub(super) fn place(&mut self, mut lead: Lead) -> u32 {
        if lead.id == 0 {
            lead.id = self.next_lead;
        }
        self.number_contacts(&mut lead);
        let id = lead.id;
        self.next_lead = self.next_lead.max(id.saturating_add(1));
        self.leads.insert(id, lead);
        id
    }

    fn number_contacts(&mut self, lead: &mut Lead) {
        for contact in lead.contacts.iter_mut().filter(|contact| contact.id == 0) {
            contact.id = self.next_contact;
            self.next_contact += 1;
        }
    }

    /// Stores a changed lead: sets what an update sets, and raises the event. False when it is gone.
    pub(super) fn finish_update(&mut self, before: &Lead, mut lead: Lead, now: Timestamp, user: u32) -> bool {
        if !self.leads.contains_key(&before.id) {
            return false;
        }
        let seconds = now.as_second();
        if lead.stage != before.stage && lead.moved == before.moved {
            let stage = lead.stage.to_string();
            lead.move_to(&stage, seconds);
        }
        if lead.updated == before.updated {
            lead.updated = seconds;
        }
        lead.updated_by = user;
        lead.id = before.id;
        self.number_contacts(&mut lead);
        self.leads.insert(lead.id, lead);
        self.raise("ONCRMLEADUPDATE", before.id, now);
        true
    }

    /// Deletes a lead, logs it, raises the event. False when it is gone.
    pub(super) fn remove(&mut self, id: u32, now: Timestamp, by: &str) -> bool {
        if self.leads.remove(&id).is_none() {
            return false;
        }
        self.stats.deletions.push(Deletion { id, at: now, by: by.to_owned() });
        self.raise("ONCRMLEADDELETE", id, now);
        true
    }

    fn raise(&mut self, event: &str, lead: u32, now: Timestamp) {
        let options = &self.options;
        let body = events::body(
            event,
            lead,
            now.as_second(),
            &options.domain,
            &options.member_id,
            &options.application_token,
        );
        self.stats.events += 1;
        self.stats.events_lost += self.outbox.send(&body);
    }
}
