//! The admin listener: who may ask, and what the pages say.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, Request, StatusCode, header};
use b24_janitor::engine::Context;
use b24_janitor::http::admin::{Admin, ReloadProblem, router};
use b24_janitor::http::attempts::{MAX_FAILURES, WINDOW};
use b24_janitor::http::guard::SCRIPT_HEADER;
use b24_janitor::http::health::{READY_TIMEOUT, Readiness, ReadyReport};
use b24_janitor::http::reload::Reload;
use b24_janitor::http::sessions::LIFETIME;
use b24_janitor::store::control;
use futures_util::FutureExt;
use tokio::time::Instant;

use crate::site;
use crate::support::{FORM, ask};

fn admin() -> Admin {
    let (context, folder) = site::context(site::RULES);
    // The folder lives as long as the listener.
    let reload: Reload = Arc::new(move || {
        let _kept = &folder;
        async { Ok(3) }.boxed()
    });
    Admin {
        bound: "192.168.7.5:8081".parse().unwrap(),
        hosts: vec!["Janitor.example".to_owned()],
        token: None,
        ready: readiness(true, "ready\n"),
        context,
        reload,
        reload_problem: Arc::new(|| None),
    }
}

fn readiness(ready: bool, body: &'static str) -> Readiness {
    Arc::new(move || async move { ReadyReport { ready, body: body.to_owned() } }.boxed())
}

async fn get(router: &Router, path: &str, headers: &[(&str, &str)]) -> (StatusCode, HeaderMap, String) {
    let mut request = Request::get(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    ask(router, request.body(Body::empty()).unwrap()).await
}

async fn local(router: &Router, path: &str) -> (StatusCode, HeaderMap, String) {
    get(router, path, &[("host", "localhost:8081")]).await
}

#[tokio::test]
async fn readyz_says_whether_and_why() {
    let ready = router(Admin { ready: readiness(true, "ready; the last reload failed\n"), ..admin() });
    let (status, _, text) = local(&ready, "/readyz").await;
    assert_eq!((status, text.as_str()), (StatusCode::OK, "ready; the last reload failed\n"));

    let not = router(Admin { ready: readiness(false, "the portal refuses the webhook\n"), ..admin() });
    let (status, _, text) = local(&not, "/readyz").await;
    assert_eq!(
        (status, text.as_str()),
        (StatusCode::SERVICE_UNAVAILABLE, "the portal refuses the webhook\n")
    );
}

#[tokio::test(start_paused = true)]
async fn a_readiness_check_that_hangs_is_not_ready() {
    let hanging = router(Admin { ready: Arc::new(|| std::future::pending().boxed()), ..admin() });
    let start = Instant::now();
    let (status, _, text) = local(&hanging, "/readyz").await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(text.contains("longer than 5 s"), "{text}");
    assert!(start.elapsed() < READY_TIMEOUT + Duration::from_secs(1));
}

#[tokio::test]
async fn metrics_are_prometheus_text() {
    let admin = admin();
    admin.context.metrics.set_paused(true);
    let (status, headers, text) = local(&router(admin), "/metrics").await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(headers[header::CONTENT_TYPE], "text/plain; version=0.0.4; charset=utf-8");
    assert!(text.contains("\njanitor_paused 1\n"), "{text}");
}

#[tokio::test]
async fn the_page_escapes_what_it_shows_and_allows_nothing_active() {
    let problem: ReloadProblem = Arc::new(|| Some("<script>\"'&".to_owned()));
    let overview = router(Admin { reload_problem: problem, ..admin() });
    let (status, headers, text) = local(&overview, "/").await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(headers[header::CONTENT_TYPE], "text/html; charset=utf-8");
    assert!(text.contains("in force.</strong> &#60;script&#62;&#34;&#39;&#38;"), "{text}");
    assert!(!text.contains("<script>") && !text.contains("style="), "{text}");
    let policy = headers[header::CONTENT_SECURITY_POLICY].to_str().unwrap();
    assert_eq!(
        policy,
        "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; base-uri 'none'; \
         form-action 'self'; frame-ancestors 'none'"
    );
    assert_eq!(headers[header::X_CONTENT_TYPE_OPTIONS], "nosniff");
    assert_eq!(headers[header::REFERRER_POLICY], "same-origin");
    assert_eq!(headers[header::CACHE_CONTROL], "no-store");
}

#[tokio::test]
async fn only_known_host_names_are_answered() {
    let router = router(admin());
    for good in [
        "localhost",
        "LocalHost:8081",
        "127.0.0.1:9",
        "127.1.2.3",
        "[::1]:8081",
        "192.168.7.5:8081",
        "janitor.example",
        "JANITOR.EXAMPLE:8081",
    ] {
        assert_eq!(get(&router, "/readyz", &[("host", good)]).await.0, StatusCode::OK, "{good}");
    }
    for bad in [
        "evil.example",
        "localhost.evil.example",
        "evil.localhost",
        "127.0.0.1.nip.io",
        "192.168.7.6:8081",
        "0.0.0.0:8081",
        "localhost@evil.example",
        "evil.example@localhost",
        "",
        "local host",
    ] {
        for path in ["/", "/metrics", "/readyz", "/nothing"] {
            let status = get(&router, path, &[("host", bad)]).await.0;
            assert_eq!(status, StatusCode::MISDIRECTED_REQUEST, "{bad} {path}");
        }
    }
    let refused = StatusCode::MISDIRECTED_REQUEST;
    assert_eq!(get(&router, "/readyz", &[]).await.0, refused, "no Host at all");
    let two = [("host", "localhost"), ("host", "evil.example")];
    assert_eq!(get(&router, "/readyz", &two).await.0, refused, "two of them");
    let absolute = get(&router, "http://evil.example/readyz", &[("host", "localhost")]).await.0;
    assert_eq!(absolute, refused, "the request's own host counts too");
}

#[tokio::test]
async fn bound_to_all_addresses_every_ip_literal_is_ours_and_no_further_name() {
    let router = router(Admin { bound: "[::]:8081".parse().unwrap(), ..admin() });
    assert_eq!(get(&router, "/readyz", &[("host", "10.1.2.3:8081")]).await.0, StatusCode::OK);
    assert_eq!(get(&router, "/readyz", &[("host", "[fd00::7]:8081")]).await.0, StatusCode::OK);
    let name = get(&router, "/readyz", &[("host", "rebound.example")]).await.0;
    assert_eq!(name, StatusCode::MISDIRECTED_REQUEST);
}

#[tokio::test]
async fn with_a_token_every_page_needs_it() {
    let router = router(Admin { token: Some("s3cret".into()), ..admin() });
    for path in ["/", "/metrics", "/readyz", "/nothing"] {
        let (status, headers, _) = local(&router, path).await;
        assert_eq!(status, StatusCode::UNAUTHORIZED, "{path}");
        assert_eq!(headers[header::WWW_AUTHENTICATE], "Basic realm=\"b24-janitor\", charset=\"UTF-8\"");
    }
    let with = async |authorization: &str| {
        let headers = [("host", "localhost"), ("authorization", authorization)];
        get(&router, "/metrics", &headers).await.0.as_u16()
    };
    assert_eq!(with("Bearer s3cret").await, 200);
    assert_eq!(with("Basic YW55b25lOnMzY3JldA==").await, 200, "anyone:s3cret");
    for bad in
        ["Bearer s3cre", "Bearer ", "s3cret", "Basic czNjcmV0OmFueW9uZQ==", "Basic czNjcmV0", "Basic %"]
    {
        assert_eq!(with(bad).await, 401, "{bad}");
    }
}

#[tokio::test]
async fn the_login_page_has_its_style_and_nothing_else_is_public() {
    let (_, router) = locked();
    let (status, headers, text) = send(&router, "GET", "/style.css", &[], "").await;
    assert_eq!(
        (status, &headers[header::CONTENT_TYPE]),
        (StatusCode::OK, &HeaderValue::from_static("text/css; charset=utf-8"))
    );
    assert!(text.contains("prefers-color-scheme: dark"), "{text}");
    for path in ["/style.css/", "/style.css/..", "//style.css", "/style.css%2f"] {
        assert_eq!(send(&router, "GET", path, &[], "").await.0, StatusCode::UNAUTHORIZED, "{path}");
    }
    assert_eq!(send(&router, "POST", "/style.css", &[], "").await.0, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn an_empty_token_locks_the_listener_instead_of_opening_it() {
    let router = router(Admin { token: Some("".into()), ..admin() });
    let headers = [("host", "localhost"), ("authorization", "Basic Og==")];
    assert_eq!(get(&router, "/metrics", &headers).await.0, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn there_is_nothing_else_and_no_other_method() {
    let router = router(admin());
    for path in ["/bitrix24/events", "/healthz", "/debug", "/metrics/"] {
        assert_eq!(local(&router, path).await.0, StatusCode::NOT_FOUND, "{path}");
    }
    for path in ["/", "/metrics", "/readyz"] {
        let post = Request::post(path)
            .header(header::HOST, "localhost")
            .header(SCRIPT_HEADER, "1")
            .body(Body::empty())
            .unwrap();
        assert_eq!(ask(&router, post).await.0, StatusCode::METHOD_NOT_ALLOWED, "{path}");
    }
}

async fn reload(router: &Router, headers: &[(&str, &str)]) -> (StatusCode, String) {
    let mut request = Request::post("/rules/reload").header("host", "localhost:8081");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let (status, _, text) = ask(router, request.body(Body::empty()).unwrap()).await;
    (status, text)
}

#[tokio::test]
async fn a_reload_says_how_many_rules_are_in_force_or_what_is_wrong() {
    let script = [(SCRIPT_HEADER, "1")];
    let fine = reload(&router(admin()), &script).await;
    assert_eq!(fine, (StatusCode::OK, "rules reloaded: 3 rules in force\n".to_owned()));
    let problems = || async { Err(vec!["rules.yaml:1:1: error[one]: x".to_owned(), "two".to_owned()]) };
    let broken = router(Admin { reload: Arc::new(move || problems().boxed()), ..admin() });
    let (status, text) = reload(&broken, &script).await;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(text, "not reloaded; the old rules stay in force:\nrules.yaml:1:1: error[one]: x\ntwo\n");
    assert_eq!(local(&router(admin()), "/rules/reload").await.0, StatusCode::METHOD_NOT_ALLOWED);
}

#[tokio::test]
async fn a_reload_needs_the_token_and_no_page_of_another_origin_can_ask_for_it() {
    let locked = router(Admin { token: Some("s3cret".into()), ..admin() });
    assert_eq!(reload(&locked, &[]).await.0, StatusCode::UNAUTHORIZED);
    assert_eq!(reload(&locked, &[("authorization", "Bearer s3cret")]).await.0, StatusCode::OK);
    let open = router(admin());
    assert_eq!(reload(&open, &[]).await.0, StatusCode::FORBIDDEN);
    assert_eq!(
        reload(&open, &[(SCRIPT_HEADER, "1"), ("origin", "https://evil.example")]).await.0,
        StatusCode::FORBIDDEN
    );
    assert_eq!(reload(&open, &[(SCRIPT_HEADER, "1")]).await.0, StatusCode::OK);
}

/// A request to a listener with the token `s3cret`, with headers and a form.
async fn send(
    router: &Router,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    form: &str,
) -> (StatusCode, HeaderMap, String) {
    let mut request = Request::builder().method(method).uri(path).header("host", "localhost");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.header(header::CONTENT_TYPE, FORM);
    ask(router, request.body(Body::from(form.to_owned())).unwrap()).await
}

/// A listener with a token, and how to ask whether someone paused.
fn locked() -> (Context, Router) {
    let admin = Admin { token: Some("s3cret".into()), ..admin() };
    (admin.context.clone(), router(admin))
}

async fn paused(context: &Context) -> bool {
    context.store.read(control::paused).await.unwrap()
}

/// Signs in: the cookie, and the token of the page's forms.
async fn sign_in(router: &Router) -> (String, String) {
    let (status, headers, _) = send(router, "POST", "/login", &[], "token=s3cret").await;
    assert_eq!(
        (status, headers.get(header::LOCATION).unwrap().to_str().unwrap()),
        (StatusCode::SEE_OTHER, "/")
    );
    let cookie = headers.get(header::SET_COOKIE).unwrap().to_str().unwrap();
    for attribute in ["; HttpOnly", "; SameSite=Strict", "; Path=/", "; Max-Age=43200"] {
        assert!(cookie.contains(attribute), "{cookie}");
    }
    assert!(!cookie.contains("s3cret") && !cookie.contains("Secure"), "{cookie}");
    let cookie = cookie.split(';').next().unwrap().to_owned();
    let (status, _, page) = send(router, "GET", "/", &[("cookie", &cookie)], "").await;
    assert_eq!(status, StatusCode::OK);
    let csrf = page.split("name=\"csrf\" value=\"").nth(1).unwrap().split('"').next().unwrap();
    (cookie, csrf.to_owned())
}

#[tokio::test]
async fn a_person_signs_in_pauses_and_signs_out() {
    let (context, router) = locked();
    let html = ("accept", "text/html,*/*");
    let (status, headers, page) = send(&router, "GET", "/", &[html], "").await;
    assert_eq!(status, StatusCode::UNAUTHORIZED);
    assert!(page.contains("action=\"/login\"") && page.contains("type=\"password\""), "{page}");
    assert!(headers[header::WWW_AUTHENTICATE].to_str().unwrap().starts_with("Bearer"), "no dialog");
    let (cookie, csrf) = sign_in(&router).await;
    let (origin, site) = (("origin", "http://localhost"), ("sec-fetch-site", "same-origin"));
    let browser = [("cookie", cookie.as_str()), html, origin, site];
    let form = format!("csrf={csrf}");
    let (status, headers, _) = send(&router, "POST", "/pause", &browser, &form).await;
    assert_eq!((status, paused(&context).await), (StatusCode::SEE_OTHER, true));
    let told = headers[header::LOCATION].to_str().unwrap();
    let (_, _, page) = send(&router, "GET", told, &browser, "").await;
    assert!(page.contains("role=\"status\">Paused") && page.contains("action=\"/rules/reload\""), "{page}");
    let (_, _, again) = send(&router, "GET", told, &browser, "").await;
    assert!(!again.contains("role=\"status\">Paused"), "a notice is read once: {again}");
    let (status, headers, _) = send(&router, "POST", "/rules/reload", &browser, &form).await;
    assert_eq!(status, StatusCode::SEE_OTHER);
    let (_, _, page) = send(&router, "GET", headers[header::LOCATION].to_str().unwrap(), &browser, "").await;
    assert!(page.contains("rules reloaded: 3 rules in force"), "{page}");
    send(&router, "POST", "/resume", &browser, &form).await;
    let (status, headers, _) = send(&router, "POST", "/logout", &browser, &form).await;
    assert_eq!(status, StatusCode::SEE_OTHER);
    assert!(headers[header::SET_COOKIE].to_str().unwrap().contains("Max-Age=0"));
    assert_eq!(send(&router, "POST", "/pause", &browser, &form).await.0, StatusCode::UNAUTHORIZED);
    assert!(!paused(&context).await);
}

#[tokio::test]
async fn nothing_is_changed_without_a_token_of_the_session_or_from_another_origin() {
    let (context, router) = locked();
    let (cookie, csrf) = sign_in(&router).await;
    let (_, others) = sign_in(&router).await;
    let cookie = ("cookie", cookie.as_str());
    let good = format!("csrf={csrf}");
    let refused = [
        (vec![cookie], String::new()),
        (vec![cookie], "csrf=".to_owned()),
        (vec![cookie], format!("csrf={others}")),
        (vec![cookie], format!("{good}&{good}")),
        (vec![cookie, (SCRIPT_HEADER, "1")], String::new()),
        (vec![cookie, ("origin", "http://evil.example")], good.clone()),
        (vec![cookie, ("origin", "null")], good.clone()),
        (vec![cookie, ("origin", "http://localhost:8082")], good.clone()),
        (vec![cookie, ("sec-fetch-site", "cross-site")], good.clone()),
        (vec![cookie, ("sec-fetch-site", "same-site")], good.clone()),
        (vec![("authorization", "Basic YW55b25lOnMzY3JldA==")], good.clone()),
    ];
    for (headers, form) in refused {
        let status = send(&router, "POST", "/pause", &headers, &form).await.0;
        assert_eq!(status, StatusCode::FORBIDDEN, "{headers:?} {form}");
    }
    let get = send(&router, "GET", "/pause", &[cookie], "").await.0;
    assert_eq!(get, StatusCode::METHOD_NOT_ALLOWED);
    let large = format!("{good}&x={}", "x".repeat(70_000));
    assert_eq!(send(&router, "POST", "/pause", &[cookie], &large).await.0, StatusCode::PAYLOAD_TOO_LARGE);
    assert!(!paused(&context).await);
    let bearer = [("authorization", "Bearer s3cret")];
    let (status, _, text) = send(&router, "POST", "/pause", &bearer, "").await;
    assert!(status == StatusCode::OK && text.starts_with("Paused: "), "a script: {status} {text}");
    assert!(paused(&context).await);
}

#[tokio::test]
async fn without_a_token_forms_still_need_theirs() {
    let router = router(admin());
    assert_eq!(send(&router, "POST", "/pause", &[], "").await.0, StatusCode::FORBIDDEN);
    let (_, _, page) = send(&router, "GET", "/", &[], "").await;
    let csrf = page.split("name=\"csrf\" value=\"").nth(1).unwrap().split('"').next().unwrap();
    assert_eq!(send(&router, "POST", "/pause", &[], &format!("csrf={csrf}")).await.0, StatusCode::OK);
    let script = [(SCRIPT_HEADER, "1")];
    assert_eq!(send(&router, "POST", "/resume", &script, "").await.0, StatusCode::OK);
}

#[tokio::test(start_paused = true)]
async fn guesses_are_limited_and_who_is_signed_in_goes_on() {
    let (_, router) = locked();
    let (cookie, _) = sign_in(&router).await;
    for guess in 0..MAX_FAILURES {
        let status = send(&router, "POST", "/login", &[], &format!("token={guess}")).await.0;
        assert_eq!(status, StatusCode::FORBIDDEN);
    }
    let right = send(&router, "POST", "/login", &[], "token=s3cret").await;
    assert_eq!(
        (right.0, right.1[header::RETRY_AFTER].to_str().unwrap()),
        (StatusCode::TOO_MANY_REQUESTS, "60")
    );
    let bearer = [("authorization", "Bearer s3cret")];
    assert_eq!(send(&router, "GET", "/metrics", &bearer, "").await.0, StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(send(&router, "GET", "/", &[("cookie", &cookie)], "").await.0, StatusCode::OK);
    tokio::time::advance(WINDOW).await;
    assert_eq!(send(&router, "GET", "/metrics", &bearer, "").await.0, StatusCode::OK);
}

#[tokio::test(start_paused = true)]
async fn a_session_expires_and_behind_https_its_cookie_is_secure() {
    let (_, router) = locked();
    let (cookie, _) = sign_in(&router).await;
    tokio::time::advance(LIFETIME).await;
    assert_eq!(send(&router, "GET", "/", &[("cookie", &cookie)], "").await.0, StatusCode::UNAUTHORIZED);
    let https = [("x-forwarded-proto", "https")];
    let (_, headers, _) = send(&router, "POST", "/login", &https, "token=s3cret").await;
    assert!(headers[header::SET_COOKIE].to_str().unwrap().ends_with("; Secure"));
}
