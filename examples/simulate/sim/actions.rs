//! What can happen: to the leads, to the portal, to the way between, to the service, and what its people do.

use std::ops::Range;
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::body::Body;
use axum::http::Request;
use tower::ServiceExt;

use b24_janitor::core::outcome::Outcome;
use b24_janitor::engine::evaluator::{self, Evaluated};
use b24_janitor::sandbox::{Fault, FaultKind, Lead};
use b24_janitor::store::control;
use b24_janitor::store::jobs::{self, JobFilter, JobState};
use b24_janitor::store::runs::{self, Run, RunFilter, RunState, Trigger};
use fastrand::Rng;

use crate::sim::spec::{SOURCES, STAGES, Spec};
use crate::sim::world::{Checked, World};

/// One rush in so many comes with a flood.
const FLOODS: u8 = 9;
/// The service's clock is at most so far from the portal's, in milliseconds.
const FARTHEST: i64 = 6 * 3_600_000;

impl World {
    /// One thing happens.
    pub(crate) async fn act(&mut self, rng: &mut Rng) -> Checked {
        self.counts.steps += 1;
        match rng.u8(0..40) {
            0..=9 => self.colleagues(rng),
            10 => self.arrivals(rng),
            11 if self.skews => self.clock_is_set(rng).await?,
            12 if self.shared => self.others(rng).await,
            11 | 12 => self.arrivals(rng),
            13 => self.leave(rng),
            14 => self.rights(rng),
            15..=19 => self.fault(rng),
            20 => self.weather(rng),
            21 => self.sandbox.clear_faults(),
            22 | 23 => self.dies_soon(rng).await?,
            24 => {
                self.kill().await;
                self.down(rng).await?;
            }
            25 => {
                self.stop().await;
                self.down(rng).await?;
            }
            26 => self.pause(rng.bool()).await?,
            27 => self.pause(false).await?,
            28..=30 => {
                let spec = self.spec.edited(rng);
                self.reload(spec).await?;
            }
            31 => {
                let name = rng.choice(&self.spec.rules).map_or("alpha", |rule| rule.name);
                let _ = self.run(name).await?;
            }
            32..=34 => self.approve(rng.u8(0..5) > 0).await?,
            35 | 36 => self.cancel(rng).await?,
            38 => self.rush(rng).await?,
            39 => self.refuse(rng).await?,
            37 => self.retry().await?,
            _ => self.ears(rng.bool()),
        }
        Ok(())
    }

    fn some_lead(&self, rng: &mut Rng) -> Option<Lead> {
        let ids = self.sandbox.ids_where(|_| true);
        rng.choice(&ids).and_then(|id| self.sandbox.lead(*id))
    }

    fn colleagues(&mut self, rng: &mut Rng) {
        for _ in 0..rng.u8(1..6) {
            let Some(lead) = self.some_lead(rng) else { return };
            let now = self.clock.now().as_second();
            let stage = if rng.u8(0..3) == 0 { "JUNK" } else { STAGES[rng.usize(..STAGES.len())] };
            let draw = rng.u8(0..10);
            let (price, user, source) = (rng.u32(0..30), rng.u32(1..=5), SOURCES[rng.usize(..4)]);
            self.wire.change(lead.id, |lead| match draw {
                0..=5 => lead.stage = stage.into(),
                6 => lead.opportunity = f64::from(price * 500),
                7 => lead.assigned_by = user,
                8 => lead.source = source.into(),
                _ => lead.last_activity = now,
            });
        }
    }

    fn arrivals(&mut self, rng: &mut Rng) {
        let now = self.clock.now();
        for _ in 0..rng.u8(1..6) {
            let mut lead = Lead::new(if rng.bool() { "Callback" } else { "a lead" }, now);
            let restored = rng.u8(0..8) == 0;
            if restored {
                // Out of the recycle bin: a new id, the old times.
                let back = i64::from(rng.u32(2..2000)) * 3600;
                (lead.created, lead.updated) = (lead.created - back, lead.updated - back);
            }
            if rng.bool() || restored {
                lead.move_to("JUNK", lead.created);
            }
            lead.source = SOURCES[rng.usize(..SOURCES.len())].into();
            lead.opportunity = f64::from(rng.u32(0..10) * 400);
            lead.assigned_by = rng.u32(1..=5);
            self.arrives(lead);
        }
    }

    fn leave(&mut self, rng: &mut Rng) {
        for _ in 0..rng.u8(1..3) {
            let Some(lead) = self.some_lead(rng) else { return };
            self.sandbox.colleague_delete(lead.id);
            self.wire.line(&format!("a colleague deleted lead {}", lead.id));
        }
    }

    /// What rules select, and their runs.
    async fn drain(&mut self) -> Checked {
        let names: Vec<&str> = self.spec.rules.iter().map(|rule| rule.name).collect();
        for name in names {
            self.run(name).await?;
        }
        self.approve(true).await
    }

    /// Colleagues work on the very leads that are being deleted, and events tell of it or don't.
    async fn rush(&mut self, rng: &mut Rng) -> Checked {
        let before = self.set_weather([if rng.bool() { 10 } else { 0 }, 0, 0]);
        if rng.u8(0..FLOODS) == 0 {
            self.flood(rng);
        }
        self.wire.mischief.store(rng.u8(0..=10), Ordering::SeqCst);
        if rng.bool() {
            self.late(rng, 1..40);
        }
        self.drain().await?;
        for _ in 0..rng.u8(5..40) {
            if self.is_dead() {
                break;
            }
            let ids = self.sandbox.ids_where(|lead| matches!(&*lead.stage, "JUNK" | "7" | "PROCESSED"));
            for _ in 0..rng.u8(0..4) {
                let Some(id) = rng.choice(&ids) else { break };
                self.wire.change(*id, |lead| lead.stage = "IN_PROCESS".into());
            }
            self.advance(Duration::from_millis(rng.u64(20..1500))).await;
        }
        self.set_weather(before);
        self.wire.mischief.store(0, Ordering::SeqCst);
        Ok(())
    }

    /// Some of the next answers come late, and what they say is old by then.
    fn late(&mut self, rng: &mut Rng, seconds: Range<u32>) {
        let mut fault = Fault::new(FaultKind::Late { seconds: f64::from(rng.u32(seconds)) })
            .nth(rng.u64(0..3), rng.u64(1..5));
        fault.method = rng
            .choice(&["batch", "crm.item.list", "crm.item.list", "crm.item.get"])
            .map(|method| (*method).to_owned());
        fault.executed = true;
        self.wire.line(&format!("fault {fault:?}"));
        *self.counts.faults.entry("Late".to_owned()).or_default() += 1;
        self.sandbox.set_fault(fault);
    }

    /// So many dead leads at once that the next are read long before it is their turn.
    fn flood(&mut self, rng: &mut Rng) {
        let now = self.clock.now();
        for _ in 0..rng.u32(100..400) {
            let mut lead = Lead::new("a call", now);
            let back = i64::from(rng.u32(60..2000)) * 3600;
            (lead.created, lead.updated) = (lead.created - back, lead.updated - back);
            lead.move_to("JUNK", lead.created);
            lead.last_activity = lead.created;
            lead.source = SOURCES[rng.usize(..SOURCES.len())].into();
            lead.assigned_by = rng.u32(1..=5);
            self.arrives(lead);
        }
    }

    /// Someone sets the clock of the service's machine while it deletes and colleagues work on the same leads: by hours, by
    /// seconds, by fractions of one.
    async fn clock_is_set(&mut self, rng: &mut Rng) -> Checked {
        self.flood(rng);
        self.wire.mischief.store(rng.u8(0..=10), Ordering::SeqCst);
        self.drain().await?;
        // Not the lists of the run, but the reading of what it enqueued.
        self.late(rng, 16..60);
        for _ in 0..rng.u8(1..20) {
            if self.is_dead() {
                break;
            }
            let by = match rng.u8(0..4) {
                0 => rng.i64(-3 * 3_600_000..3 * 3_600_000),
                1 | 2 => rng.i64(-90_000..10_000),
                _ => rng.i64(-500..500),
            };
            self.set_clock((self.skew.load(Ordering::SeqCst) + by).clamp(-FARTHEST, FARTHEST));
            let ids = self.sandbox.ids_where(|lead| matches!(&*lead.stage, "JUNK" | "7" | "PROCESSED"));
            if let Some(id) = rng.choice(&ids) {
                self.wire.change(*id, |lead| lead.stage = "IN_PROCESS".into());
            }
            self.advance(Duration::from_millis(rng.u64(20..1500))).await;
        }
        self.wire.mischief.store(0, Ordering::SeqCst);
        Ok(())
    }

    /// For a while the database refuses to settle, as a full disk does in the middle of a turn.
    async fn refuse(&mut self, rng: &mut Rng) -> Checked {
        let trigger = match rng.bool() {
            true => {
                "CREATE TRIGGER refuse BEFORE UPDATE ON jobs WHEN NEW.state = 'done'
                 BEGIN SELECT RAISE(ABORT, 'refused'); END"
            }
            false => {
                "CREATE TRIGGER refuse BEFORE INSERT ON attempts BEGIN SELECT RAISE(ABORT, 'refused'); END"
            }
        };
        self.wire.line("the database refuses");
        self.write(move |db| db.execute_batch(trigger)).await?;
        self.drain().await?;
        self.advance(Duration::from_millis(rng.u64(10..90_000))).await;
        self.write(|db| db.execute_batch("DROP TRIGGER IF EXISTS refuse")).await?;
        self.wire.line("the database works again");
        Ok(())
    }

    /// Other programs at the same address, which know no pace.
    async fn others(&self, rng: &mut Rng) {
        let router = self.sandbox.router();
        for _ in 0..rng.u8(1..60) {
            let path = format!("{}profile", self.sandbox.webhook_path());
            if let Ok(request) = Request::post(path).body(Body::empty()) {
                let Ok(_answer) = router.clone().oneshot(request).await;
            }
        }
        self.wire.line("others asked the portal");
    }

    fn rights(&mut self, rng: &mut Rng) {
        let dead = self.sandbox.ids_where(|lead| matches!(&*lead.stage, "JUNK" | "7"));
        let Some(lead) = rng.choice(&dead).and_then(|id| self.sandbox.lead(*id)) else { return };
        match rng.u8(0..4) {
            0 => self.sandbox.deny(lead.id),
            1 => self.sandbox.hide(lead.id),
            2 => self.sandbox.veto(lead.id, "The lead is under audit"),
            _ => self.permit_all(),
        }
        self.wire.line(&format!("rights of lead {} changed", lead.id));
    }

    pub(crate) fn permit_all(&self) {
        for id in self.sandbox.ids_where(|_| true) {
            self.sandbox.permit(id);
        }
    }

    fn fault(&mut self, rng: &mut Rng) {
        let error = |code: &str, text: &str, status| FaultKind::Error {
            code: code.to_owned(),
            text: text.to_owned(),
            status,
        };
        let kind = match rng.u8(0..19) {
            0 => FaultKind::Refuse,
            1 => FaultKind::Drop,
            2 => FaultKind::Late { seconds: f64::from(rng.u32(1..90)) },
            3 => FaultKind::Truncated,
            4 => FaultKind::Html { status: *rng.choice(&[200, 403, 502, 503, 504]).unwrap_or(&502) },
            5 => FaultKind::Fatal,
            6 => FaultKind::Empty,
            7 => FaultKind::Redirect { to: "https://renamed.bitrix24.example".to_owned() },
            8 => FaultKind::ErrorInOk { code: "INTERNAL_SERVER_ERROR".to_owned(), text: "no".to_owned() },
            9 | 10 => FaultKind::MissingKeys { count: rng.usize(1..6) },
            11 => FaultKind::FilterIgnored,
            12 => error("QUERY_LIMIT_EXCEEDED", "Too many requests", 503),
            13 => error("OPERATION_TIME_LIMIT", "Method is blocked due to operation time limit.", 429),
            14 => error("INTERNAL_SERVER_ERROR", "Internal server error", 500),
            15 => error("ERROR_CORE", "SQL query error!", 500),
            16 => error("ERROR_UNEXPECTED_ANSWER", "Server returned an unexpected response", 500),
            17 => error("INVALID_CREDENTIALS", "Invalid request credentials", 401),
            _ => error("OVERLOAD_LIMIT", "REST API is blocked due to overload.", 401),
        };
        let name = format!("{kind:?}");
        let name = match &kind {
            FaultKind::Error { code, .. } => code.clone(),
            _ => name.split([' ', '{']).next().unwrap_or_default().to_owned(),
        };
        let mut fault = Fault::new(kind).nth(rng.u64(0..3), rng.u64(1..5));
        fault.method = match rng.u8(0..6) {
            0 | 1 => Some("batch".to_owned()),
            2 => Some("crm.item.list".to_owned()),
            3 => Some("crm.lead.delete".to_owned()),
            4 => Some("crm.item.get".to_owned()),
            _ => None,
        };
        // A command that a batch's reply does not mention was not executed: so the documentation says.
        fault.executed = rng.bool() && !matches!(fault.kind, FaultKind::MissingKeys { .. });
        self.wire.line(&format!("fault {fault:?}"));
        *self.counts.faults.entry(name).or_default() += 1;
        self.sandbox.set_fault(fault);
    }

    pub(crate) fn set_weather(&self, weather: [u8; 3]) -> [u8; 3] {
        let mut now = self.wire.weather.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        std::mem::replace(&mut *now, weather)
    }

    /// Whether anybody takes notices.
    pub(crate) fn ears(&self, deaf: bool) {
        self.wire.deaf.store(deaf, Ordering::SeqCst);
        self.wire.line(if deaf { "nobody takes notices" } else { "notices are taken" });
    }

    fn weather(&mut self, rng: &mut Rng) {
        let weather = if rng.bool() { [0, 0, 0] } else { [rng.u8(0..=10), rng.u8(0..5), rng.u8(0..5)] };
        self.set_weather(weather);
        self.wire.line(&format!("weather of events {weather:?}"));
    }

    /// The process is replaced by one that dies at one of its next commits.
    async fn dies_soon(&mut self, rng: &mut Rng) -> Checked {
        self.stop().await;
        self.dies_at = rng.u32(1..120);
        self.dies_before = rng.bool();
        self.start().await
    }

    /// Until it is started again; the machine's clock may be another by then.
    async fn down(&mut self, rng: &mut Rng) -> Checked {
        let short = rng.bool();
        let seconds = if short { rng.u64(0..60) } else { rng.u64(0..6 * 3600) };
        self.advance(Duration::from_secs(seconds)).await;
        if self.skews && rng.u8(0..3) == 0 {
            self.set_clock(rng.i64(-3 * 3_600_000..3 * 3_600_000));
        }
        self.dies_at = 0;
        self.start().await
    }

    pub(crate) async fn pause(&mut self, paused: bool) -> Checked {
        let now = self.service_now()?;
        let told = self.write(move |db| control::set_paused(db, paused, now)).await?.is_some();
        // A process that dies at the commit of `resume` may have committed it: from then on a deletion breaks no promise.
        if told || !paused {
            let now = self.clock.now();
            self.wire.ledger().pause(now, paused);
        }
        if told {
            self.wire.line(if paused { "paused" } else { "resumed" });
        }
        Ok(())
    }

    /// `run RULE`; `None` if it came to nothing.
    pub(crate) async fn run(&mut self, name: &str) -> Checked<Option<Run>> {
        let context = self.running()?.engine.context();
        let set = context.rules();
        let Some(rule) = set.rule(name) else { return Ok(None) };
        let run = match evaluator::evaluate(context, &set, rule, Trigger::Manual).await {
            Ok(Evaluated::Run(run)) => Some(*run),
            Ok(Evaluated::SkippedHeld(_)) => None,
            Err(error) => {
                self.wire.line(&format!("run {name}: {error}"));
                None
            }
        };
        Ok(run)
    }

    /// A person approves what is held, with the right number or a wrong one.
    pub(crate) async fn approve(&mut self, right: bool) -> Checked {
        let filter = RunFilter { limit: 10_000, ..RunFilter::default() };
        let all = self.read(move |db| runs::list(db, &filter)).await?.unwrap_or_default();
        let set = self.running()?.engine.context().rules();
        for run in all.into_iter().filter(|run| run.state == RunState::Held) {
            let Some(rule) = set.rule(&run.rule) else { continue };
            let (text, mode) = (rule.text(), rule.mode);
            let grace = rule.grace_period.seconds().unsigned_abs();
            let count = run.would_enqueue + u64::from(!right);
            let now = self.service_now()?;
            let said =
                self.write(move |db| runs::approve(db, run.id, count, Some(&text), mode, grace, now)).await?;
            self.wire.line(&format!("approval: {said:?}"));
            if let (false, Some(runs::Approval::Approved { .. })) = (right, said) {
                return Err("a run was approved with a wrong number".to_owned());
            }
        }
        Ok(())
    }

    async fn cancel(&mut self, rng: &mut Rng) -> Checked {
        let filter = JobFilter { state: Some(JobState::Waiting), limit: 1000, ..JobFilter::default() };
        let waiting = self.read(move |db| jobs::list(db, &filter)).await?.unwrap_or_default();
        let Some(job) = rng.choice(&waiting) else { return Ok(()) };
        let (id, now) = (job.id, self.service_now()?);
        let said = self.write(move |db| jobs::cancel(db, id, now)).await?;
        self.wire.line(&format!("cancel {id}: {said:?}"));
        Ok(())
    }

    pub(crate) async fn retry(&mut self) -> Checked {
        let filter = JobFilter { outcome: Some(Outcome::Failed), limit: 1000, ..JobFilter::default() };
        let failed = self.read(move |db| jobs::list(db, &filter)).await?.unwrap_or_default();
        for job in failed {
            let (id, now) = (job.id, self.service_now()?);
            let said = self.write(move |db| jobs::retry(db, id, now)).await?;
            self.wire.line(&format!("retry {id}: {said:?}"));
        }
        Ok(())
    }

    /// The final rules: as they are, without caps.
    pub(crate) fn last_rules(&self) -> Spec {
        self.spec.uncapped()
    }
}
