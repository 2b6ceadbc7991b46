//! `demo`: the whole job on this machine, as it happens: a simulated portal over HTTP, the service beside it, a
//! schedule that fires, colleagues who change their minds, events, a cap that holds; and at the end the books.

mod books;
mod stage;

use std::time::Duration;

use jiff::tz::TimeZone;
use serde_json::json;
use tokio::time::Instant;

use super::failure::Failure;
use super::print::Out;
use crate::cli::DemoArgs;
use crate::engine::evaluator::{self, Evaluated};
use crate::store::jobs::JobCounts;
use crate::store::runs::{self, Run, RunFilter, RunState, Trigger};
use crate::store::{control, jobs};
use books::Books;
use stage::Stage;

/// How long any one scene may take before the demo gives up: the slowest takes a few seconds.
const SCENE: Duration = Duration::from_secs(60);
/// How often a scene looks whether it is over.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Plays the demo.
pub(crate) async fn demo(args: &DemoArgs) -> Result<(), Failure> {
    let out = Out::new(args.json.json);
    let stage = Stage::set(args).await?;
    let played = tokio::select! {
        played = play(out, &stage) => played,
        () = super::serve::asked_to_stop() => Err(Failure::of("interrupted; nothing but the demo's own files was touched")),
    };
    stage.clear().await;
    played
}

async fn play(out: Out, stage: &Stage) -> Result<(), Failure> {
    let mut books = Books::open(stage);
    out.say(format!(
        "A simulated Bitrix24 portal with {} leads, and b24-janitor beside it. Nothing here is real.\n",
        stage.portal.lead_count()
    ))?;
    out.table(&["stage", "leads"], books.by_stage(stage))?;
    out.say("\nThe rules say (rules.yaml, shortened):")?;
    out.say("  protect   has-money      opportunity over 0: no rule may delete it")?;
    out.say("  old-junk                 stage JUNK, created more than 90 days ago, every night at 03:15")?;
    out.say("  spam-at-once             stage JUNK from source CALLBACK, as soon as its event comes in")?;
    out.say("  too-greedy               every open lead older than 30 days: somebody's mistake\n")?;

    let run = the_schedule_fires(out, stage).await?;
    colleagues_change_their_minds(out, stage, &mut books)?;
    drain(out, stage, JobCounts::default()).await?;
    let before = stage.store().read(jobs::counts).await?;
    spam_comes_in(out, stage, &mut books).await?;
    drain(out, stage, before).await?;
    a_mistake_is_held(out, stage).await?;

    let report = books.close(stage).await?;
    out.say("\nWhat became of every job:\n")?;
    out.table(&["rule", "outcome", "jobs", "for example", "why"], report.rows())?;
    out.say(format!(
        "\nold-junk: matched {} = protected {} + already waiting {} + enqueued {}",
        run.matched, run.protected, run.already_waiting, run.enqueued
    ))?;
    for line in report.sums() {
        out.say(line)?;
    }
    let dir = stage.dir.display();
    out.say(format!("\nThe files are in {dir}: rules.yaml and janitor.db. Look around:"))?;
    for command in ["jobs", "runs", "status"] {
        out.say(format!("  b24-janitor {command} --db {dir}/janitor.db"))?;
    }
    out.object(&json!({ "ok": report.is_right(), "dir": stage.dir, "report": &report, "run": &run }))?;
    if report.is_right() {
        out.say("\nEverything adds up.")?;
        Ok(())
    } else {
        Err(Failure::of("the books do not add up; please report this with the files above"))
    }
}

/// Scene 1: the clock reaches 03:15, the cron rule runs. Deletions are paused, so that the next scene can happen.
async fn the_schedule_fires(out: Out, stage: &Stage) -> Result<Run, Failure> {
    let ctx = stage.engine.context();
    let now = ctx.clock.now();
    ctx.store.write(move |db| control::set_paused(db, true, now)).await?;
    let clock =
        |at: jiff::Timestamp| at.to_zoned_datetime(stage.zone.clone()).strftime("%H:%M:%S").to_string();
    out.say(format!("{}  waiting for 03:15, when old-junk is due", clock(now)))?;
    stage.engine.spawn(crate::engine::FOREIGN_CHANGES_EVERY);
    let bar = out.progress(0, "waiting for the schedule");
    let run = until(|| async {
        let filter = RunFilter { rule: Some("old-junk".to_owned()), limit: 1, ..RunFilter::default() };
        let runs = ctx.store.read(move |db| runs::list(db, &filter)).await?;
        Ok(runs.into_iter().find(|run| run.state != RunState::Running))
    })
    .await?;
    bar.finish_and_clear();
    out.say(format!(
        "{}  old-junk ran: {} leads match, {} of them protected, {} deletions enqueued",
        clock(ctx.clock.now()),
        run.matched,
        run.protected,
        run.enqueued
    ))?;
    Ok(run)
}

/// Scene 2: before anything is deleted, colleagues revive some leads, delete some by hand, and a handler of the portal
/// refuses to let one go.
fn colleagues_change_their_minds(out: Out, stage: &Stage, books: &mut Books) -> Result<(), Failure> {
    books.colleagues_act(stage);
    out.say(format!(
        "          meanwhile colleagues revive {} of them, delete {} by hand, and the portal vetoes {}",
        books.revived.len(),
        books.by_hand.len(),
        books.vetoed.len()
    ))?;
    Ok(())
}

/// Scene 3: spam arrives; its events are stored before they are answered, and the leads go at once.
async fn spam_comes_in(out: Out, stage: &Stage, books: &mut Books) -> Result<(), Failure> {
    let ctx = stage.engine.context();
    books.spam_arrives(stage);
    let spam = books.spam.len() as u64;
    out.say(format!("          {spam} callback requests arrive as junk; one of them has money in it"))?;
    until(|| async {
        let pending = ctx.store.read(|db| Ok(crate::store::events::counts(db)?.pending)).await?;
        let filter = RunFilter { rule: Some("spam-at-once".to_owned()), limit: 1000, ..RunFilter::default() };
        let runs = ctx.store.read(move |db| runs::list(db, &filter)).await?;
        let enqueued: u64 = runs.iter().map(|run| run.enqueued).sum();
        Ok((pending == 0 && enqueued + 1 >= spam).then_some(()))
    })
    .await
}

/// Deletes what is due, with a progress bar, and says what became of it since `start` was counted.
async fn drain(out: Out, stage: &Stage, start: JobCounts) -> Result<(), Failure> {
    let ctx = stage.engine.context();
    let now = ctx.clock.now();
    ctx.store.write(move |db| control::set_paused(db, false, now)).await?;
    let finished = |counts: &JobCounts| counts.total() - counts.waiting - counts.running;
    let total = ctx.store.read(jobs::counts).await?.total() - finished(&start);
    let bar = out.progress(total, "deleting");
    until(|| async {
        let counts = ctx.store.read(jobs::counts).await?;
        bar.set_position(finished(&counts) - finished(&start));
        Ok((counts.waiting + counts.running == 0).then_some(()))
    })
    .await?;
    bar.finish_and_clear();
    let end = ctx.store.read(jobs::counts).await?;
    let parts: Vec<String> = [
        (end.deleted - start.deleted, "deleted"),
        (end.already_gone - start.already_gone, "already gone"),
        (end.spared - start.spared, "spared"),
        (end.failed - start.failed, "refused by the portal"),
    ]
    .into_iter()
    .filter(|(count, _)| *count > 0)
    .map(|(count, word)| format!("{count} {word}"))
    .collect();
    out.say(format!("          drained: {}", parts.join(", ")))?;
    Ok(())
}

/// Scene 4: a rule that would take far too much is held, and nothing of it is enqueued.
async fn a_mistake_is_held(out: Out, stage: &Stage) -> Result<(), Failure> {
    let ctx = stage.engine.context();
    let rules = ctx.rules();
    let rule = super::workshop::named(&rules, "too-greedy")?;
    match evaluator::evaluate(ctx, &rules, rule, Trigger::Manual).await? {
        Evaluated::Run(run) if run.state == RunState::Held => {
            out.say(format!(
                "          too-greedy is HELD: {}; nothing is enqueued until a person approves",
                run.held_reason.as_deref().unwrap_or_default()
            ))?;
            Ok(())
        }
        Evaluated::Run(_) | Evaluated::SkippedHeld(_) => {
            Err(Failure::of("the cap did not hold the greedy rule"))
        }
    }
}

/// Looks until there is something to see.
async fn until<T, Look, Seen>(mut look: Look) -> Result<T, Failure>
where
    Look: FnMut() -> Seen,
    Seen: Future<Output = Result<Option<T>, Failure>>,
{
    let started = Instant::now();
    loop {
        if let Some(seen) = look().await? {
            return Ok(seen);
        }
        if started.elapsed() > SCENE {
            return Err(Failure::of("the demo waited a minute for something that should take seconds"));
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// The demo's time zone; the rules name it too.
fn zone() -> Result<TimeZone, Failure> {
    TimeZone::get("Europe/Berlin").map_err(|error| Failure::Failed(anyhow::Error::new(error)))
}
