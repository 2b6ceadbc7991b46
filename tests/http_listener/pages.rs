//! The pages of the admin listener: what they show, what their forms do, and that nothing from elsewhere is active.

use std::ops::Range;
use std::time::Duration;

use axum::body::Body;
use axum::http::{Request, StatusCode, header};
use b24_janitor::core::lead::LeadId;
use b24_janitor::core::outcome::Outcome;
use b24_janitor::core::rule::{Mode, Rule};
use b24_janitor::engine::Context;
use b24_janitor::http::admin::{MAX_STREAMS, PACE};
use b24_janitor::store::control::{self, PortalStop};
use b24_janitor::store::events::{self, NewEvent};
use b24_janitor::store::runs::{self, NewRun, RunEnd, RunState, Trigger};
use b24_janitor::store::{RunId, jobs};
use http_body_util::BodyExt;
use jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;
use tower::ServiceExt;

use crate::site::{Site, csrf, now};

pub(crate) fn hours(hours: i64) -> Timestamp {
    now() + SignedDuration::from_hours(hours)
}

fn leads(ids: Range<u32>) -> Vec<LeadId> {
    ids.map(|id| LeadId::try_from(i64::from(id)).unwrap()).collect()
}

fn new_run(ctx: &Context, rule: &str) -> NewRun {
    let rule_text = ctx.rules().rule(rule).map_or_else(|| rule.to_owned(), Rule::text);
    NewRun { rule: rule.to_owned(), rule_text, trigger: Trigger::Manual, mode: Mode::Delete }
}

/// A run that enqueued jobs for these leads, due now.
pub(crate) async fn enqueue(ctx: &Context, rule: &str, ids: Range<u32>) -> RunId {
    let run = new_run(ctx, rule);
    let write = ctx.store.write(move |db| {
        let id = runs::start(db, &run, now())?;
        let done = jobs::enqueue(db, id, &run.rule, &leads(ids), 0, now(), now())?;
        let (state, enqueued) = (RunState::Enqueued, done.enqueued);
        runs::finish(db, id, &RunEnd { state, matched: enqueued, enqueued, ..RunEnd::default() }, now())?;
        Ok(id)
    });
    write.await.unwrap()
}

/// A run that is held with these leads.
pub(crate) async fn hold(ctx: &Context, rule: &str, ids: Range<u32>, why: &str) -> RunId {
    let (run, why) = (new_run(ctx, rule), why.to_owned());
    let write = ctx.store.write(move |db| {
        let id = runs::start(db, &run, now())?;
        let would_enqueue = runs::store_matches(db, id, &leads(ids))?;
        let end = RunEnd {
            state: RunState::Held,
            matched: would_enqueue,
            would_enqueue,
            held_reason: Some(why),
            ..RunEnd::default()
        };
        runs::finish(db, id, &end, now())?;
        Ok(id)
    });
    write.await.unwrap()
}

/// Ends a lead's job.
pub(crate) async fn end(ctx: &Context, lead: u32, outcome: Outcome, at: Timestamp) {
    const SQL: &str = "UPDATE jobs SET state = 'done', outcome = ?2, finished_at = ?3 WHERE lead_id = ?1";
    let write = ctx.store.write(move |db| {
        control::bump(db, "jobs_finished", outcome.as_str(), 1)?;
        db.execute(SQL, (lead, outcome.as_str(), at.as_millisecond()))
    });
    assert_eq!(write.await.unwrap(), 1);
}

async fn receive(ctx: &Context, lead: u32, at: Timestamp) {
    const SQL: &str =
        "UPDATE events SET state = 'processed', processed_at = ?1, result = 'x' WHERE state = 'pending'";
    let event = NewEvent {
        event: b24_janitor::core::rule::LeadEvent::Update,
        lead_id: LeadId::try_from(i64::from(lead)).unwrap(),
        portal_ts: None,
        domain: None,
        member_id: None,
        foreign: false,
    };
    let write = ctx.store.write(move |db| {
        events::append(db, &event, at)?;
        db.execute(SQL, [at.as_millisecond()])
    });
    write.await.unwrap();
}

#[tokio::test]
async fn the_overview_shows_what_waits_what_was_done_and_what_comes_next() {
    let site = Site::new();
    enqueue(&site.ctx, "old-junk", 1..8).await;
    end(&site.ctx, 1, Outcome::Deleted, hours(-1)).await;
    end(&site.ctx, 2, Outcome::Deleted, hours(-25)).await;
    end(&site.ctx, 3, Outcome::Deleted, hours(-24 * 40)).await;
    end(&site.ctx, 4, Outcome::Failed, hours(-1)).await;
    for (lead, at) in [(5, hours(-2)), (6, hours(-26)), (7, hours(-26))] {
        receive(&site.ctx, lead, at).await;
    }
    let page = site.page("/").await;
    for part in [
        "<dt>Due now</dt><dd>3</dd>",
        "<dt>Deleted</dt><dd><a href=\"/jobs?state=deleted\">3</a></dd>",
        "<dt>Events received</dt><dd>3</dd>",
        "<strong>Not paused.</strong>",
        "Nothing is wrong.",
        "0.0 of 50 places taken; 2.00 a second come free",
        "2026-11-26 03:15:00+01:00",
        "2026-11-26 05:00:00+01:00",
        "aria-label=\"Leads deleted from 2026-10-27 to 2026-11-25: 2 in all, at most 1 in a day\"",
        "aria-label=\"Events evaluated from 2026-10-27 to 2026-11-25: 3 in all, at most 2 in a day\"",
        "<time datetime=\"2026-11-24\">2026-11-24</time></th><td class=\"number\">2</td>",
    ] {
        assert!(page.contains(part), "{part}\n{page}");
    }
    assert_eq!(page.matches("<h1>").count(), 1);
}

#[tokio::test]
async fn the_overview_says_what_stops_the_work_and_escapes_the_words_of_others() {
    let site = Site::new();
    let write = site.ctx.store.write(|db| {
        control::set_paused(db, true, now())?;
        let (code, text) = ("ACCESS_DENIED".to_owned(), "<script>alert(1)</script>".to_owned());
        control::set_portal_stop(db, &PortalStop { code, text, since: now(), needs_person: true })?;
        control::set_silent_since(db, Some(hours(-9)), now())?;
        control::set_last_error(db, Some("a \"<b>\" of the portal"), now())?;
        for gap in 0..5 {
            events::record_gap(db, &format!("gap {gap} <i>"), now())?;
        }
        Ok(())
    });
    write.await.unwrap();
    let page = site.page("/").await;
    for part in [
        "<strong>Paused.</strong>",
        "&#60;script&#62;alert(1)&#60;/script&#62;",
        "no event came since 2026-11-25 02:00:00+01:00",
        "a &#34;&#60;b&#62;&#34; of the portal",
        "gap 4 &#60;i&#62;\n",
        "and 2 more",
        "action=\"/resume\"",
    ] {
        assert!(page.contains(part), "{part}\n{page}");
    }
    assert!(!page.contains("<script>alert") && !page.contains("<i>") && !page.contains("gap 1 "), "{page}");
    assert!(!page.contains("action=\"/pause\""), "{page}");
}

#[tokio::test]
async fn a_page_that_is_not_there_says_so_as_a_page() {
    let site = Site::new();
    let (status, headers, page) = site.get("/nothing").await;
    assert_eq!(
        (status, &headers[header::CONTENT_TYPE]),
        (StatusCode::NOT_FOUND, &"text/html; charset=utf-8".parse().unwrap())
    );
    assert!(page.contains("<h1>Not found</h1>") && page.contains("href=\"/\""), "{page}");
}

#[test]
fn the_templates_load_nothing_from_elsewhere_and_hold_no_script_or_style() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("templates");
    let mut seen = 0;
    for file in std::fs::read_dir(folder).unwrap() {
        let path = file.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        let name = path.file_name().unwrap().to_str().unwrap();
        assert!(!text.contains("http:") && !text.contains("https:") && !text.contains("\"//"), "{name}");
        assert!(!text.contains("@import") && !text.contains("url("), "{name}");
        if name.ends_with(".html") {
            assert!(!text.contains("style=") && !text.contains("<style"), "{name}");
            assert!(
                !text.contains("|safe") && !text.contains("| safe") && !text.contains("escape"),
                "{name}"
            );
            let handler = text.split_whitespace().any(|word| word.starts_with("on") && word.contains("=\""));
            assert!(!handler, "{name}: a handler of events in a page");
            let scripts = text.matches("<script").count();
            assert_eq!(scripts, text.matches("<script src=\"/").count(), "{name}");
        }
        seen += 1;
    }
    assert!(seen > 5);
}

#[tokio::test]
async fn every_field_has_a_label_and_every_button_of_a_page_its_own_name() {
    let site = Site::new();
    hold(&site.ctx, "spam", 1..4, "why").await;
    hold(&site.ctx, "old-junk", 4..9, "why").await;
    enqueue(&site.ctx, "spam", 20..23).await;
    for path in PAGES {
        let page = site.page(path).await;
        for field in page.split('<').filter(|tag| tag.starts_with("input ") || tag.starts_with("select ")) {
            if field.contains("type=\"hidden\"") {
                continue;
            }
            let id = field.split("id=\"").nth(1).unwrap().split('"').next().unwrap();
            assert!(page.contains(&format!("<label for=\"{id}\">")), "{path}: {field}");
        }
        let mut names: Vec<&str> =
            page.split("<button").skip(1).map(|rest| rest.split("</button>").next().unwrap()).collect();
        let all = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), all, "{path}: {names:?}");
        for table in page.split("<table").skip(1) {
            let table = table.split("</table>").next().unwrap();
            assert!(table.contains("<caption") && table.contains("scope=\"col\""), "{path}: {table}");
        }
        assert!(page.contains("<html lang=\"en\">") && page.contains("<main id=\"main\""), "{path}");
    }
}

/// Every page that is there without data.
const PAGES: [&str; 6] = ["/", "/jobs", "/runs", "/rules", "/rules/spam", "/rules/spam/plan"];

#[tokio::test]
async fn nothing_is_approved_without_the_token_of_the_form() {
    let site = Site::new();
    let run = hold(&site.ctx, "spam", 1..4, "why").await;
    assert_eq!(csrf(&site.page("/").await).len(), 64);
    let status = site.post(&format!("/runs/{run}/approve"), "count=3").await.0;
    assert_eq!(status, StatusCode::FORBIDDEN);
}

/// The text between two parts of a page, for every occurrence.
fn all_between<'a>(page: &'a str, before: &str, after: &str) -> Vec<&'a str> {
    page.split(before).skip(1).map(|rest| rest.split(after).next().unwrap()).collect()
}

/// Every page of a list, from the first on, and the ids that they show.
async fn ids(site: &Site, first: &str) -> (usize, Vec<i64>) {
    let (mut path, mut pages, mut ids) = (first.to_owned(), 0, Vec::new());
    loop {
        let page = site.page(&path).await;
        let rows = all_between(&page, "<tr><th scope=\"row\">", "</th>");
        ids.extend(rows.iter().map(|row| {
            let text = row.rsplit_once("\">").map_or(*row, |(_, text)| text);
            row.split("<span").next().unwrap_or(text).rsplit('>').next().unwrap().parse::<i64>().unwrap()
        }));
        pages += 1;
        let Some((before, _)) = page.split_once("\" rel=\"next\"") else { break };
        let older = before.rsplit("href=\"").next().unwrap();
        path = older.replace("&#38;", "&");
    }
    (pages, ids)
}

#[tokio::test]
async fn paging_over_the_jobs_shows_every_one_once_the_newest_first() {
    let site = Site::new();
    enqueue(&site.ctx, "old-junk", 1..121).await;
    enqueue(&site.ctx, "spam", 121..131).await;
    for lead in 1..=60 {
        end(&site.ctx, lead, Outcome::Failed, hours(-1)).await;
    }
    let all: Vec<i64> = (1..=130).rev().collect();
    assert_eq!(ids(&site, "/jobs").await, (3, all));
    assert_eq!(ids(&site, "/jobs?state=failed").await, (2, (1..=60).rev().collect()));
    assert_eq!(ids(&site, "/jobs?state=done&rule=old-junk").await.1.len(), 60);
    assert_eq!(ids(&site, "/jobs?state=waiting&rule=old-junk").await, (2, (61..=120).rev().collect()));
    assert_eq!(ids(&site, "/jobs?rule=spam&state=&lead=").await, (1, (121..=130).rev().collect()));
    assert_eq!(ids(&site, "/jobs?lead=7").await, (1, vec![7]));
    assert_eq!(ids(&site, "/jobs?run=2").await.1.len(), 10);
    assert_eq!(ids(&site, "/jobs?state=spared").await, (1, vec![]));
    for wrong in ["state=x", "lead=0", "lead=x", "before=-1", "before=x", "run=%3Cscript%3E"] {
        let (status, _, page) = site.get(&format!("/jobs?{wrong}")).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{wrong}");
        assert!(page.contains("<h1>Not understood</h1>") && !page.contains("<script>"), "{wrong}: {page}");
    }
}

#[tokio::test]
async fn paging_over_the_runs_shows_every_one_once_and_those_that_are_held_on_top() {
    let site = Site::new();
    for lead in 1..=55 {
        enqueue(&site.ctx, "old-junk", lead..lead + 1).await;
    }
    let held = hold(&site.ctx, "spam", 100..103, "too <many>").await;
    assert_eq!(ids(&site, "/runs").await, (2, (1..=56).rev().collect()));
    assert_eq!(ids(&site, "/runs?state=enqueued&rule=old-junk").await.1.len(), 55);
    assert_eq!(ids(&site, "/runs?state=held").await, (1, vec![held.0]));
    assert_eq!(ids(&site, "/runs?rule=spam").await, (1, vec![held.0]));
    let page = site.page("/runs").await;
    assert!(page.contains("too &#60;many&#62;") && page.contains("3 leads"), "{page}");
    let page = site.send(&format!("/runs/{held}/approve"), "count=3&back=runs").await;
    assert!(page.contains("<h1>Runs</h1>") && page.contains("is approved: 3 leads enqueued"), "{page}");
    assert_eq!(site.get("/runs?state=%22").await.0, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn jobs_are_retried_and_cancelled_where_that_is_possible_and_the_browser_comes_back() {
    let site = Site::new();
    enqueue(&site.ctx, "spam", 1..4).await;
    end(&site.ctx, 1, Outcome::Failed, hours(-1)).await;
    end(&site.ctx, 2, Outcome::Deleted, hours(-1)).await;
    let page = site.page("/jobs").await;
    assert_eq!(all_between(&page, "action=\"/jobs/", "\""), ["3/cancel", "1/retry"]);
    let page = site.send("/jobs/1/retry", "back=state%3Dwaiting%26before%3D3").await;
    assert!(
        page.contains("Job 1 waits again, due now.") && page.contains("<option selected>waiting"),
        "{page}"
    );
    let page = site.send("/jobs/3/cancel", "back=%2F%2Fevil.example%2F").await;
    assert!(page.contains("Job 3 is cancelled") && page.contains("<h1>Jobs</h1>"), "{page}");
    for (path, why) in [
        ("/jobs/2/retry", "Job 2 is deleted: only a failed job"),
        ("/jobs/2/cancel", "Job 2 is done already: deleted"),
        ("/jobs/9/cancel", "There is no job 9."),
        ("/jobs/%3Cb%3E/retry", "There is no job &#60;b&#62;."),
    ] {
        let page = site.send(path, "").await;
        assert!(page.contains("role=\"alert\"") && page.contains(why), "{path}: {page}");
    }
    for path in ["/jobs/1/cancel", "/jobs/3/retry"] {
        assert_eq!(site.post(path, "csrf=wrong").await.0, StatusCode::FORBIDDEN, "{path}");
    }
    assert_eq!(site.script("/jobs/2/retry", "").await.0, StatusCode::CONFLICT);
}

#[tokio::test]
async fn the_lists_as_csv_have_every_row_quote_what_needs_it_and_disarm_formulas() {
    let site = Site::new();
    let rule = "=cmd|' /C calc'!A0, \"x\"\n<script>";
    enqueue(&site.ctx, rule, 1..2).await;
    enqueue(&site.ctx, "spam", 2..2500).await;
    let (status, headers, text) = site.get("/jobs.csv").await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(headers[header::CONTENT_TYPE], "text/csv; charset=utf-8");
    assert_eq!(headers[header::CONTENT_DISPOSITION], "attachment; filename=\"jobs.csv\"");
    assert!(text.starts_with("id,lead_id,rule,run_id,state,outcome,reason,attempts,due_at,"), "{text}");
    let rows =
        csv::Reader::from_reader(text.as_bytes()).into_records().map(Result::unwrap).collect::<Vec<_>>();
    let ids: Vec<i64> = rows.iter().map(|row| row[0].parse().unwrap()).collect();
    assert_eq!(ids, (1..=2499).rev().collect::<Vec<i64>>());
    assert_eq!(&rows[2498][2], format!("'{rule}"));
    let (_, _, some) = site.get("/jobs.csv?rule=spam&state=waiting").await;
    assert_eq!(some.lines().count(), 1 + 2498);
    let (_, headers, text) = site.get("/runs.csv").await;
    assert_eq!(headers[header::CONTENT_DISPOSITION], "attachment; filename=\"runs.csv\"");
    assert!(text.contains("\"'=cmd|' /C calc'!A0, \"\"x\"\"\n<script>\",manual"), "{text}");
    let page = site.page("/jobs?before=2").await;
    assert!(page.contains("&#60;script&#62;") && !page.contains("<script>"), "{page}");
}

/// The body of a stream, or the status that refused it.
async fn stream(site: &Site) -> Result<Body, StatusCode> {
    let request = Request::get("/live").header("host", "localhost").body(Body::empty()).unwrap();
    let answer = site.router.clone().oneshot(request).await.unwrap();
    if answer.status() != StatusCode::OK {
        return Err(answer.status());
    }
    assert_eq!(answer.headers()[header::CONTENT_TYPE], "text/event-stream");
    Ok(answer.into_body())
}

/// The next piece of a stream; `None` at its end.
async fn piece(body: &mut Body) -> Option<String> {
    let bytes = body.frame().await?.unwrap().into_data().unwrap();
    Some(String::from_utf8(bytes.to_vec()).unwrap())
}

#[tokio::test(start_paused = true)]
async fn an_open_page_hears_of_changes_at_most_once_a_second_and_the_stream_ends_with_the_service() {
    let site = Site::new();
    let mut body = stream(&site).await.unwrap();
    assert_eq!(piece(&mut body).await.unwrap(), "retry: 5000\n\n");
    let start = Instant::now();
    for lead in 1..20 {
        enqueue(&site.ctx, "spam", lead..lead + 1).await;
    }
    assert_eq!(piece(&mut body).await.unwrap(), "data: changed\n\n");
    assert_eq!(start.elapsed(), PACE);
    assert_eq!(piece(&mut body).await.unwrap(), ": still here\n\n", "nothing more changed");
    let before = Instant::now();
    enqueue(&site.ctx, "spam", 30..31).await;
    assert_eq!(piece(&mut body).await.unwrap(), "data: changed\n\n");
    assert_eq!(before.elapsed(), PACE);
    site.ctx.stop.cancel();
    assert_eq!(piece(&mut body).await, None);
}

#[tokio::test(start_paused = true)]
async fn a_stream_ends_after_ten_minutes_so_that_whoever_is_signed_out_hears_no_more() {
    let site = Site::new();
    let mut body = stream(&site).await.unwrap();
    let start = Instant::now();
    while piece(&mut body).await.is_some() {
        assert!(start.elapsed() < Duration::from_secs(600));
    }
    assert_eq!(start.elapsed(), Duration::from_secs(600));
}

#[tokio::test]
async fn a_stream_too_many_is_refused_and_one_that_ends_makes_room() {
    let site = Site::new();
    let mut open = Vec::new();
    for _ in 0..MAX_STREAMS {
        open.push(stream(&site).await.unwrap());
    }
    assert_eq!(stream(&site).await.unwrap_err(), StatusCode::SERVICE_UNAVAILABLE);
    site.page("/").await;
    open.pop();
    assert!(stream(&site).await.is_ok());
}

#[tokio::test]
async fn the_script_is_there_and_short() {
    let site = Site::new();
    let (status, headers, script) = site.get("/live.js").await;
    assert_eq!(
        (status, &headers[header::CONTENT_TYPE]),
        (StatusCode::OK, &"text/javascript; charset=utf-8".parse().unwrap())
    );
    assert!(script.lines().count() < 80 && !script.contains("innerHTML = "), "{script}");
    assert!(site.page("/").await.contains("<script src=\"/live.js\" defer></script>"));
}

#[tokio::test(start_paused = true)]
async fn the_overview_as_a_whole() {
    let site = Site::new();
    enqueue(&site.ctx, "old-junk", 1..4).await;
    end(&site.ctx, 1, Outcome::Deleted, hours(-1)).await;
    hold(&site.ctx, "spam", 10..50, "max_matches: 40 leads, more than 10").await;
    let page = site.page("/").await;
    let page = page.replace(&csrf(&page), "[csrf]").replace(b24_janitor::VERSION, "[version]");
    // Thirty days look alike.
    let shown = page
        .lines()
        .filter(|line| !line.contains("\" height=\"0\"") && !line.contains("<td class=\"number\">0</td>"));
    insta::assert_snapshot!(shown.collect::<Vec<_>>().join("\n"));
}

#[tokio::test(start_paused = true)]
async fn what_a_request_uses_of_both_limits_shows_on_the_overview() {
    let site = Site::new();
    site.ctx.portal.probe().await.unwrap();
    let page = site.page("/").await;
    for part in [
        "high=\"40\" optimum=\"0\" value=\"1\" aria-label=\"Requests\">1.0 of 50 places taken; 2.00 a second come free<",
        "<strong>crm.item.fields</strong>",
        "0.0 of 480 s used; some of it comes free in 10 min 0 s, at 2026-11-25 11:10:00+01:00",
    ] {
        assert!(page.contains(part), "{part}\n{page}");
    }
    tokio::time::advance(Duration::from_secs(700)).await;
    let page = site.page("/").await;
    assert!(page.contains("no method has used") && page.contains("0.0 of 50 places taken"), "{page}");
}
