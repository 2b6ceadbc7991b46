//! The pages of rules and leads, with a running engine and a simulated portal, in paused time.

use std::time::Duration;

use axum::body::Body;
use axum::http::{Request, StatusCode, header};
use b24_janitor::clock::Clock;
use b24_janitor::core::lead::LeadId;
use b24_janitor::core::rule::PortalLimits;
use b24_janitor::engine::plan::plan;
use b24_janitor::engine::{Engine, FOREIGN_CHANGES_EVERY, Parts};
use b24_janitor::metrics::Metrics;
use b24_janitor::portal::{Access, Portal, PortalOptions, Transport};
use b24_janitor::sandbox::{Fault, FaultKind, Lead, Sandbox, SandboxOptions};
use b24_janitor::store::runs::RunFilter;
use b24_janitor::store::{OpenOptions, Store, Threads, copies, jobs, runs};

use crate::site::{Site, csrf, listener, now, parse};
use crate::support::ask;

/// A rule that deletes at once, one that only plans, and a protection.
const RULES: &str = "version: 1\ntimezone: Europe/Berlin\n\
    defaults: { limits: { max_matches: 100000, max_percent: 100 } }\n\
    protect:\n\
    \x20 - { name: pinned, ids: [6] }\n\
    \x20 - { name: has-money, match: { opportunity: { gt: 1000000 } } }\n\
    rules:\n\
    \x20 # What nobody wants.\n\
    \x20 - name: junk\n\
    \x20   description: Junk <b>of all kinds</b>\n\
    \x20   mode: delete\n\
    \x20   schedule: \"15 3 * * *\"   # at night\n\
    \x20   match: { stageId: JUNK }\n\
    \x20 - { name: old, schedule: \"0 5 * * *\", match: { stageId: [NEW, JUNK] }, older_than: 1h }\n";

/// A service, its portal, and its pages.
struct Live {
    site: Site,
    engine: Engine,
    sandbox: Sandbox,
}

impl Live {
    /// With so many sample leads.
    async fn with_leads(leads: usize) -> Live {
        let folder = tempfile::tempdir().unwrap();
        let options = OpenOptions { threads: Threads::Inline, create: true };
        let store = Store::open(&folder.path().join("janitor.db"), options).unwrap();
        let clock = Clock::starting_at(now());
        let sandbox = Sandbox::new(SandboxOptions { leads, ..SandboxOptions::default() }, clock);
        let address = format!("https://portal.example{}", sandbox.webhook_path());
        let portal = Portal::new(
            Transport::InProcess(sandbox.router()),
            PortalOptions {
                access: Access::Webhook(address.into()),
                limits: PortalLimits::default(),
                clock,
                observer: None,
                pace: None,
            },
        );
        let parts = Parts { store, portal, clock, metrics: Metrics::new(), seed: 1 };
        let engine = Engine::start(parts, parse(RULES)).await.unwrap();
        engine.spawn(FOREIGN_CHANGES_EVERY);
        let site = Site::of(engine.context().clone(), folder);
        Live { site, engine, sandbox }
    }

    /// A lead of the stage JUNK with this title.
    fn junk(&self, title: &str) -> u32 {
        let mut lead = Lead::new(title, self.sandbox.now());
        lead.move_to("JUNK", lead.created);
        self.sandbox.insert(lead)
    }

    /// A lead with this title that the rule has deleted.
    async fn deleted(&self, title: &str) -> u32 {
        let lead = self.junk(title);
        self.site.send("/rules/junk/run", "").await;
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert!(self.sandbox.lead(lead).is_none());
        lead
    }

    /// A page as whoever holds the admin token of a listener that has one sees it.
    async fn signed_in(&self, path: &str) -> String {
        let request = Request::get(path)
            .header("host", "localhost")
            .header("accept", "text/html")
            .header("authorization", "Bearer s3cret");
        let router = listener(&self.site.ctx, Some("s3cret"));
        let (status, _, page) = ask(&router, request.body(Body::empty()).unwrap()).await;
        assert_eq!(status, StatusCode::OK, "{path}: {page}");
        accessible(path, &page);
        page
    }

    async fn runs(&self) -> usize {
        let all = RunFilter { limit: 100, ..RunFilter::default() };
        self.site.ctx.store.read(move |db| runs::list(db, &all)).await.unwrap().len()
    }

    fn in_junk(&self) -> usize {
        self.sandbox.ids_where(|lead| &*lead.stage == "JUNK").len()
    }
}

/// That labels, names of buttons, captions and the order of headings are there for those who don't see the page.
fn accessible(path: &str, page: &str) {
    let of = |start: &str| {
        page.split(start).skip(1).map(|rest| rest.split('>').next().unwrap().to_owned()).collect::<Vec<_>>()
    };
    for field in of("<input ").iter().filter(|field| !field.contains("hidden")) {
        let id = field.split("id=\"").nth(1).unwrap().split('"').next().unwrap();
        assert!(page.contains(&format!("<label for=\"{id}\">")), "{path}: {field}");
    }
    let mut buttons: Vec<&str> =
        page.split("<button").skip(1).map(|rest| rest.split("</button>").next().unwrap()).collect();
    let all = buttons.len();
    buttons.sort_unstable();
    buttons.dedup();
    assert_eq!(buttons.len(), all, "{path}: {buttons:?}");
    for table in page.split("<table").skip(1) {
        let table = table.split("</table>").next().unwrap();
        assert!(table.contains("<caption>") && table.contains("scope=\"col\""), "{path}: {table}");
    }
    let levels: Vec<u32> = page
        .split("<h")
        .skip(1)
        .filter_map(|rest| rest.chars().next().and_then(|level| level.to_digit(10)))
        .collect();
    assert_eq!(levels.first(), Some(&1), "{path}");
    assert!(
        levels.iter().zip(levels.iter().skip(1)).all(|(one, next)| *next <= one + 1),
        "{path}: {levels:?}"
    );
    let mut ids: Vec<&str> =
        page.split(" id=\"").skip(1).map(|rest| rest.split('"').next().unwrap()).collect();
    let all = ids.len();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), all, "{path}: {ids:?}");
    for label in page.split("aria-labelledby=\"").skip(1).map(|rest| rest.split('"').next().unwrap()) {
        assert!(ids.contains(&label), "{path}: {label}");
    }
}

/// The text of a page without its tags and with one space between words.
fn words(page: &str) -> String {
    let text: String = page
        .split('<')
        .map(|part| format!("{} ", part.split_once('>').map_or("", |(_, text)| text)))
        .collect();
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[tokio::test(start_paused = true)]
async fn a_rule_is_shown_in_words_as_it_is_written_and_with_its_next_times() {
    let live = Live::with_leads(0).await;
    let page = live.site.page("/rules").await;
    accessible("/rules", &page);
    let all = words(&page);
    for part in [
        "junk mode delete Junk &#60;b&#62;of all kinds&#60;/b&#62; Leads whose stage is JUNK (",
        "converted leads are kept.",
        "old mode plan Leads whose stage is NEW (",
        "No rule deletes the leads 6.",
        "No rule deletes leads whose amount is more than 1000000.",
        "Last run none yet",
    ] {
        assert!(all.contains(part), "{part}: {all}");
    }
    let page = live.site.page("/rules/junk").await;
    assert!(
        page.contains(
            ">- name: junk\n  description: Junk &#60;b&#62;of all kinds&#60;/b&#62;\n  mode: delete\n  schedule: &#34;15 3 * * *&#34;   # at \
             night\n  match: { stageId: JUNK }\n</pre>"
        ),
        "{page}"
    );
    let one = words(&page);
    for day in 26..=30 {
        assert!(one.contains(&format!("2026-11-{day} 03:15:00+01:00")), "{day}: {one}");
    }
    assert!(!one.contains("2026-12-01"), "five times: {one}");
    live.site.send("/rules/junk/run", "").await;
    let page = live.site.page("/rules/junk").await;
    accessible("/rules/junk", &page);
    assert!(page.contains("<th scope=\"row\">1</th>") && page.contains("/runs?rule=junk"), "{page}");
}

#[tokio::test(start_paused = true)]
async fn a_plan_shows_what_the_command_tells_and_deletes_nothing() {
    let live = Live::with_leads(200).await;
    let before = live.site.ctx.clone();
    let rules = before.rules();
    let first = words(&live.site.page("/rules/old/plan").await);
    assert!(first.contains("There is no plan of this rule"), "{first}");

    let making = live.site.send("/rules/old/plan", "").await;
    assert!(making.contains("<meta http-equiv=\"refresh\" content=\"2\">"), "{making}");
    assert!(words(&making).contains("The plan is being made") && !making.contains("Plan now"), "{making}");
    let second = words(&live.site.send("/rules/junk/plan", "").await);
    assert!(second.contains("One plan is made at a time, and now it is that of rule old."), "{second}");

    tokio::time::sleep(Duration::from_secs(30)).await;
    let page = live.site.page("/rules/old/plan").await;
    assert!(!page.contains("http-equiv") && page.contains("Plan now"), "{page}");
    accessible("/rules/old/plan", &page);
    let shown = words(&page);
    let report = plan(&before, &rules, rules.rule("old").unwrap(), false, |_| ()).await.unwrap();
    assert!(report.would_delete > 10 && report.protected + report.already_waiting < report.matched);
    for part in [
        format!("would be deleted {}", report.would_delete),
        format!("match {} match and are protected {}", report.matched, report.protected),
        format!("match and wait already {}", report.already_waiting),
        format!("can't be judged, and are kept {}", report.undecidable),
        format!("Deleting them would take {}", report.estimate).replace('\'', "&#39;"),
        "The rule was not planned before.".to_owned(),
    ] {
        assert!(shown.contains(&part), "{part}: {shown}");
    }
    let names = before.portal.stages().await.unwrap();
    for (code, count) in &report.breakdown.by_stage {
        let name = &names.iter().find(|stage| stage.id == *code).unwrap().name;
        assert!(shown.contains(&format!("{code} ({name}) {count}")), "{code}: {shown}");
    }
    assert!(report.breakdown.by_responsible.len() > 1 && page.contains("<meter min=\"0\" max="), "{page}");
    for lead in &report.sample {
        assert!(page.contains(&format!("<a href=\"/leads/{0}\">{0}</a>", lead.id)), "{}", lead.id);
    }
    assert_eq!((live.runs().await, live.sandbox.lead_count()), (0, 200));

    live.junk("one more");
    tokio::time::sleep(Duration::from_secs(2 * 3600)).await;
    live.site.send("/rules/old/plan", "").await;
    tokio::time::sleep(Duration::from_secs(30)).await;
    let shown = words(&live.site.page("/rules/old/plan").await);
    assert!(
        shown.contains("The last plan was made at") && shown.contains("Newly selected 1: 201"),
        "{shown}"
    );
    tokio::time::sleep(Duration::from_secs(2 * 3600)).await;
    let shown = words(&live.site.page("/rules/old/plan").await);
    assert!(shown.contains("There is no plan of this rule"), "it is not kept for ever: {shown}");
}

#[tokio::test(start_paused = true)]
async fn a_long_plan_says_how_far_it_is() {
    let live = Live::with_leads(600).await;
    live.sandbox.set_fault(Fault::new(FaultKind::Late { seconds: 20.0 }).on("crm.item.list"));
    live.site.send("/rules/old/plan", "").await;
    let mut told = Vec::new();
    for _ in 0..100 {
        tokio::time::sleep(Duration::from_secs(3)).await;
        let page = words(&live.site.page("/rules/old/plan").await);
        let Some(rest) = page.split_once("may select are read, ").map(|(_, rest)| rest) else { break };
        told.push(rest.split(' ').next().unwrap().parse::<u64>().unwrap());
    }
    assert!(told.first() == Some(&0) && told.last().unwrap() > &0 && told.is_sorted(), "{told:?}");
}

#[tokio::test(start_paused = true)]
async fn a_plan_that_fails_says_why_and_the_next_one_may_begin() {
    let live = Live::with_leads(5).await;
    live.sandbox.set_fault(Fault::error("crm.item.list", "ACCESS_DENIED", "Access <denied>", 403));
    live.site.send("/rules/old/plan", "").await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    let page = live.site.page("/rules/old/plan").await;
    assert!(words(&page).contains("The plan failed: ACCESS_DENIED"), "{page}");
    assert!(!page.contains("<denied>"), "{page}");
    live.sandbox.clear_faults();
    live.site.send("/rules/junk/plan", "").await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    let page = live.site.page("/rules/junk/plan").await;
    assert!(words(&page).contains("would be deleted"), "{page}");
}

#[tokio::test(start_paused = true)]
async fn run_now_enqueues_what_the_rule_selects_and_deletes_it() {
    let live = Live::with_leads(0).await;
    let (one, pinned) = (live.junk("one"), live.junk("two"));
    let page = live.site.page("/rules/junk").await;
    let version = page.split("name=\"version\" value=\"").nth(1).unwrap().split('"').next().unwrap();
    let (status, headers, _) =
        live.site.post("/rules/junk/run", &format!("csrf={}&version={version}", csrf(&page))).await;
    assert_eq!(status, StatusCode::SEE_OTHER);
    assert!(headers[header::LOCATION].to_str().unwrap().starts_with("/rules/junk?notice="));
    let counts = live.site.ctx.store.read(jobs::counts).await.unwrap();
    assert_eq!((counts.total(), live.runs().await), (2, 1));
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(live.sandbox.lead(one).is_none() && live.sandbox.lead(pinned).is_none());
    let told = words(&live.site.send("/rules/old/run", "").await);
    assert!(told.contains("Run 2: 0 leads would be enqueued; the mode is plan, nothing was."), "{told}");
}

#[tokio::test(start_paused = true)]
async fn a_rule_that_was_changed_since_its_page_was_loaded_is_not_run() {
    let live = Live::with_leads(0).await;
    live.junk("one");
    let page = live.site.page("/rules/junk").await;
    let version =
        page.split("name=\"version\" value=\"").nth(1).unwrap().split('"').next().unwrap().to_owned();
    live.engine.reload(parse(&RULES.replace("{ stageId: JUNK }", "{ stageId: [JUNK, NEW] }"))).await.unwrap();
    let told = words(&live.site.send("/rules/junk/run", &format!("version={version}")).await);
    assert!(told.contains("The rule was changed since its page was loaded. Nothing was run"), "{told}");
    assert_eq!(live.runs().await, 0);
}

#[tokio::test(start_paused = true)]
async fn a_lead_is_judged_condition_by_condition_on_its_page() {
    let live = Live::with_leads(0).await;
    let lead = live.junk("<script>alert(1)</script>");
    let page = live.signed_in(&format!("/leads/{lead}")).await;
    assert!(!page.contains("<script>alert"), "{page}");
    let told = words(&page);
    for part in [
        "Title &#60;script&#62;alert(1)&#60;/script&#62;",
        "junk mode delete selects the lead",
        "stageId eq JUNK JUNK JUNK: ",
        "It is not converted.",
        "Its deletion would be due at 2026-11-26 03:15:",
        "old mode plan doesn&#39;t select it",
        "all of these must hold no",
        "createdTime older than 1h",
        "pinned doesn&#39;t protect it",
        "No jobs.",
        "No copy is kept of it.",
    ] {
        assert!(told.contains(part), "{part}: {told}");
    }
    assert!(page.contains("class=\"depth-1\"") && !page.contains("/restore"), "{page}");
}

#[tokio::test(start_paused = true)]
async fn a_deleted_lead_is_restored_from_its_page_once_with_its_texts_escaped() {
    let live = Live::with_leads(0).await;
    let lead = live.deleted("<script>alert(1)</script>").await;
    let path = format!("/leads/{lead}");
    let page = live.signed_in(&path).await;
    assert!(!page.contains("method=\"post\""), "a token in a header gets no forms: {page}");
    assert!(page.contains("<td>&#60;script&#62;alert(1)&#60;/script&#62;</td>"), "{page}");
    assert!(!page.contains("<script>alert"), "{page}");
    let page = live.site.page(&path).await;
    accessible(&path, &page);
    let told = words(&page);
    assert!(
        !told.contains("alert(1)") && told.contains("shown only where JANITOR_ADMIN_TOKEN is set"),
        "{told}"
    );
    assert!(told.contains("The portal has no such lead (any more).") && told.contains("deleted"), "{told}");
    assert!(told.contains("A copy is kept until") && told.contains("recycle bin first"), "{told}");
    assert!(
        told.contains("The copy makes a new lead with a new id. Not in a copy, so it can&#39;t come back: "),
        "{told}"
    );

    let restore = format!("{path}/restore");
    let unsure = words(&live.site.send(&restore, "").await);
    assert!(
        unsure.contains("Nothing was restored: look into the portal&#39;s recycle bin first"),
        "{unsure}"
    );
    assert_eq!(live.in_junk(), 0);
    let done = live.site.send(&restore, "confirm=yes").await;
    let new = live.sandbox.ids_where(|lead| &*lead.stage == "JUNK");
    assert_eq!(new.len(), 1);
    assert!(
        words(&done).contains(&format!("Restored as lead {}. Every rule leaves it alone", new[0])),
        "{done}"
    );
    assert!(done.contains(&format!("<a href=\"/leads/{0}\">lead {0}</a>", new[0])), "{done}");
    assert!(!done.contains("name=\"confirm\""), "the form is gone: {done}");

    accessible(&path, &done);
    assert!(
        done.contains("<th scope=\"row\">title</th><td><span class=\"tag good\">same</span></td>"),
        "{done}"
    );
    assert!(!words(&done).contains("alert(1)"), "who holds no token sees no values: {done}");
    assert!(live.sandbox.colleague_update(new[0], |lead| lead.title = "another <title>".into()));
    let beside = live.signed_in(&path).await;
    let title = "<th scope=\"row\">title</th><td>&#60;script&#62;alert(1)&#60;/script&#62;</td><td>another &#60;title&#62;</td><td><span \
                 class=\"tag warn\">differs</span></td>";
    assert!(beside.contains(title), "{beside}");
    assert!(
        beside.contains("could not come back") && beside.contains("<td>JUNK</td><td>JUNK</td>"),
        "{beside}"
    );

    let again = words(&live.site.send(&restore, "confirm=yes").await);
    assert!(again.contains(&format!("It is restored already, as lead {}", new[0])), "{again}");
    assert_eq!(live.in_junk(), 1);
    let child = live.site.page(&format!("/leads/{}", new[0])).await;
    assert!(words(&child).contains(&format!("created by the restore of lead {lead} lead {lead}")), "{child}");
    assert!(words(&child).contains("selects it, but it is left alone for now"), "{child}");
}

#[tokio::test(start_paused = true)]
async fn the_history_is_shown_although_the_portal_refuses_or_hangs() {
    let live = Live::with_leads(0).await;
    let lead = live.deleted("gone").await;
    live.sandbox.set_fault(Fault::new(FaultKind::Late { seconds: 50.0 }));
    let begun = tokio::time::Instant::now();
    let told = words(&live.site.page(&format!("/leads/{lead}")).await);
    assert!(begun.elapsed() < Duration::from_secs(15));
    for part in [
        "The portal did not answer; this is what the database knows.",
        "it has not answered for 8 s",
        "deleted",
        "A copy is kept until",
    ] {
        assert!(told.contains(part), "{part}: {told}");
    }
    live.sandbox.clear_faults();
    live.sandbox.configure(|options| options.code = "renewed".to_owned());
    let told = words(&live.site.page(&format!("/leads/{lead}")).await);
    assert!(told.contains("INVALID_CREDENTIALS") && told.contains("A copy is kept until"), "{told}");
    let rules = words(&live.site.page("/rules").await);
    assert!(rules.contains("Leads whose stage is JUNK"), "{rules}");
}

#[tokio::test(start_paused = true)]
async fn an_order_without_the_token_of_its_form_changes_nothing() {
    let live = Live::with_leads(0).await;
    let lead = live.deleted("gone").await;
    live.junk("another");
    let runs = live.runs().await;
    for path in ["/rules/junk/run", "/rules/junk/plan", &format!("/leads/{lead}/restore")] {
        for form in ["confirm=yes", "csrf=&confirm=yes", "csrf=0123456789abcdef&confirm=yes"] {
            assert_eq!(live.site.post(path, form).await.0, StatusCode::FORBIDDEN, "{path} {form}");
        }
    }
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!((live.runs().await, live.in_junk()), (runs, 1));
    let plan = words(&live.site.page("/rules/junk/plan").await);
    assert!(plan.contains("There is no plan of this rule"), "{plan}");
}

#[tokio::test(start_paused = true)]
async fn what_is_not_there_is_a_page_that_says_so() {
    let live = Live::with_leads(3).await;
    for (path, status, says) in [
        ("/rules/nothing", StatusCode::NOT_FOUND, "there is no rule `nothing` in force"),
        ("/rules/%3Cb%3E", StatusCode::NOT_FOUND, "there is no rule `&#60;b&#62;` in force"),
        ("/rules/nothing/plan", StatusCode::NOT_FOUND, "there is no rule `nothing` in force"),
        ("/leads/999999", StatusCode::NOT_FOUND, "there is no lead 999999"),
        ("/leads/0", StatusCode::BAD_REQUEST, "`0` is not a lead id: ids go from 1 to 2147483647"),
        ("/leads/7b", StatusCode::BAD_REQUEST, "`7b` is not a lead id"),
        ("/leads?id=99999999999", StatusCode::BAD_REQUEST, "is not a lead id"),
        ("/leads?id=%3Cb%3E", StatusCode::BAD_REQUEST, "`&#60;b&#62;` is not a lead id"),
        ("/leads", StatusCode::BAD_REQUEST, "write the id of a lead"),
    ] {
        let (found, headers, page) = live.site.get(path).await;
        assert_eq!(found, status, "{path}: {page}");
        assert_eq!(headers[header::CONTENT_TYPE], "text/html; charset=utf-8", "{path}");
        assert!(page.contains(says) && page.contains("<nav"), "{path}: {page}");
    }
    let (status, headers, _) = live.site.get("/leads?id=+2+").await;
    assert_eq!((status, headers[header::LOCATION].to_str().unwrap()), (StatusCode::SEE_OTHER, "/leads/2"));
    for path in ["/rules/nothing/run", "/rules/nothing/plan", "/leads/0/restore"] {
        let form = format!("csrf={}", csrf(&live.site.page("/").await));
        let (status, _, page) = live.site.post(path, &form).await;
        assert!(status.is_client_error() && page.contains("<nav"), "{path}: {status} {page}");
    }
    let copy = live.site.ctx.store.read(|db| copies::get(db, LeadId::try_from(2).unwrap())).await.unwrap();
    assert!(copy.is_none());
}
