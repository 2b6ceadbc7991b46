//! Held runs on the pages: who may approve one, with what, and who is recorded to have done it.

use axum::http::{StatusCode, header};
use b24_janitor::store::jobs;

use crate::pages::hold;
use crate::site::{RULES, Site, ask_with, context, csrf, listener};

#[tokio::test]
async fn a_held_run_is_approved_with_its_count_only() {
    let site = Site::new();
    let run = hold(&site.ctx, "spam", 1..41, "over <max_matches>").await;
    let page = site.page("/").await;
    assert!(page.contains("over &#60;max_matches&#62;") && page.contains("40 leads"), "{page}");
    let approve = format!("/runs/{run}/approve");
    for (count, why) in [
        ("39", "it would enqueue 40 leads, and 39 was typed"),
        ("", "type the number"),
        ("-40", "type the number"),
        ("forty", "type the number"),
        ("%2B40", "type the number"),
    ] {
        let page = site.send(&approve, &format!("count={count}")).await;
        assert!(page.contains("role=\"alert\"") && page.contains(why), "{count}: {page}");
    }
    let (status, _, _) = site.post(&approve, "csrf=wrong&count=40").await;
    assert_eq!(status, StatusCode::FORBIDDEN);
    assert_eq!(site.ctx.store.read(jobs::counts).await.unwrap().total(), 0, "nothing was enqueued");
    let page = site.send(&approve, "count=40").await;
    assert!(page.contains("role=\"status\">Run 1 of spam is approved: 40 leads enqueued"), "{page}");
    assert!(page.contains("<dt>Due now</dt><dd>40</dd>") && !page.contains(&approve), "{page}");
    let page = site.send(&approve, "count=40").await;
    assert!(page.contains("Run 1 is enqueued, not held"), "{page}");
    for path in ["/runs/99/approve", "/runs/x/approve"] {
        assert!(site.send(path, "count=1").await.contains("There is no "), "{path}");
    }
}

#[tokio::test]
async fn a_script_hears_by_the_status_whether_a_run_was_approved() {
    let site = Site::new();
    let run = hold(&site.ctx, "spam", 1..4, "why").await;
    let answer =
        async |count: u32| site.script(&format!("/runs/{run}/approve"), &format!("count={count}")).await;
    assert_eq!(answer(4).await.0, StatusCode::CONFLICT);
    let (status, text) = answer(3).await;
    assert!(status == StatusCode::OK && text.starts_with("Run 1 of spam is approved"), "{status} {text}");
}

#[tokio::test]
async fn who_may_only_look_sees_no_forms() {
    let (ctx, _folder) = context(RULES);
    hold(&ctx, "spam", 1..4, "why").await;
    let router = listener(&ctx, Some("s3cret"));
    let basic = [("authorization", "Basic YW55b25lOnMzY3JldA=="), ("accept", "text/html")];
    let (status, _, page) = ask_with(&router, "GET", "/", &basic, "").await;
    assert_eq!(status, StatusCode::OK);
    assert!(page.contains("Run 1 of spam is held") && !page.contains("method=\"post\""), "{page}");
}

#[tokio::test]
async fn whoever_approves_is_recorded_and_shown() {
    let site = Site::new();
    hold(&site.ctx, "spam", 1..4, "over <max>").await;
    site.send("/runs/1/approve", "count=3&back=runs").await;
    let runs = site.page("/runs").await;
    let shown = "over &#60;max&#62;<br>Approved <time datetime=\"2026-11-25T10:00:0";
    assert!(
        runs.contains(shown) && runs.contains("by the admin listener, which needs no token</td>"),
        "{runs}"
    );
    let (_, _, sheet) = site.get("/runs.csv").await;
    assert!(sheet.lines().next().unwrap().ends_with(",approved_at,approved_by"), "{sheet}");
    let row = sheet.lines().nth(1).unwrap();
    let end = "Z,\"the admin listener, which needs no token\"";
    assert!(row.contains(",2026-11-25T10:00:0") && row.ends_with(end), "{sheet}");
}

#[tokio::test]
async fn a_session_and_a_script_with_the_token_are_told_apart() {
    let (ctx, _folder) = context(RULES);
    let router = listener(&ctx, Some("s3cret"));
    hold(&ctx, "spam", 1..4, "why").await;
    hold(&ctx, "old-junk", 10..14, "why").await;
    let (status, headers, _) = ask_with(&router, "POST", "/login", &[], "token=s3cret").await;
    assert_eq!(status, StatusCode::SEE_OTHER);
    let cookie =
        headers.get(header::SET_COOKIE).unwrap().to_str().unwrap().split(';').next().unwrap().to_owned();
    let session = [("cookie", cookie.as_str()), ("accept", "text/html")];
    let (_, _, page) = ask_with(&router, "GET", "/", &session, "").await;
    let form = format!("csrf={}&count=3", csrf(&page));
    ask_with(&router, "POST", "/runs/1/approve", &session, &form).await;
    let bearer = [("authorization", "Bearer s3cret")];
    let (status, _, text) = ask_with(&router, "POST", "/runs/2/approve", &bearer, "count=5").await;
    assert_eq!(status, StatusCode::CONFLICT, "{text}");
    ask_with(&router, "POST", "/runs/2/approve", &bearer, "count=4").await;
    let (_, _, page) = ask_with(&router, "GET", "/runs", &session, "").await;
    let by = |who: &str| page.matches(&format!("by {who}</td>")).count();
    assert_eq!((by("the admin page, signed in"), by("a script with the admin token")), (1, 1), "{page}");
}

#[tokio::test]
async fn large_numbers_are_shown_in_groups_and_may_be_typed_so() {
    let site = Site::new();
    hold(&site.ctx, "spam", 1..1235, "why").await;
    let page = site.page("/runs").await;
    assert!(
        page.contains("<dd>1,234 leads</dd>") && page.contains("<td class=\"number\">1,234</td>"),
        "{page}"
    );
    let wrong = site.send("/runs/1/approve", "count=1%2C23%2C4").await;
    assert!(wrong.contains("type the number"), "{wrong}");
    let wrong = site.send("/runs/1/approve", "count=1%2C235").await;
    assert!(wrong.contains("it would enqueue 1,234 leads, and 1,235 was typed"), "{wrong}");
    let done = site.send("/runs/1/approve", "count=1%2C234").await;
    assert!(done.contains("Run 1 of spam is approved: 1,234 leads enqueued"), "{done}");
    assert!(done.contains("<dt>Due now</dt><dd>1,234</dd>"), "{done}");
}
