//! What a rehearsal sees beside the REST methods.

use super::*;

#[tokio::test(start_paused = true)]
async fn the_independent_query_agrees_with_the_rest_methods() {
    let sandbox = portal(SandboxOptions { leads: 300, seed: 7, ..SandboxOptions::raised() });
    let (_, body) = get(&sandbox, "/sandbox/leads?stage=JUNK&created_before=2026-06-01T00:00:00Z").await;
    let mut listed = Vec::<u64>::new();
    loop {
        let last = listed.last().copied().unwrap_or(0);
        let filter = json!({ "stageId": "JUNK", "<createdTime": "2026-06-01T00:00:00Z", ">id": last });
        let page = items(&sandbox, filter).await;
        listed.extend(&page);
        if page.len() < 50 {
            break;
        }
    }
    assert!(!listed.is_empty());
    assert_eq!(body["ids"], json!(listed));
    assert_eq!(body["count"], json!(listed.len()));
}

#[tokio::test(start_paused = true)]
async fn colleagues_and_faults_work_over_http() {
    let sandbox = free();
    leads(&sandbox, 2);
    let deed = async |path: &str, body: Value| {
        send(&sandbox, post(&format!("/sandbox/{path}"), "application/json", body.to_string())).await
    };
    let update = json!({ "action": "update", "id": 1, "fields": { "stageId": "JUNK" } });
    assert_eq!(deed("colleague", update).await.0, 200);
    assert_eq!(&*sandbox.lead(1).unwrap().stage, "JUNK");
    assert_eq!(deed("colleague", json!({ "action": "delete", "id": 9 })).await.0, 404);
    assert_eq!(deed("colleague", json!({ "action": "delete", "id": 2 })).await.0, 200);
    let added = deed("colleague", json!({ "action": "add", "fields": { "title": "t" } })).await;
    assert_eq!(added.1["id"], 3);
    let unknown = json!({ "action": "update", "id": 1, "fields": { "stage": "X" } });
    assert_eq!(deed("colleague", unknown).await.0, 400);
    let fault = json!({ "kind": { "html": { "status": 502 } }, "times": 1 });
    assert_eq!(deed("faults", fault).await.0, 200);
    assert_eq!(call(&sandbox, "profile", json!({})).await.0, 502);
    assert_eq!(call(&sandbox, "profile", json!({})).await.0, 200);
    let (_, stats) = get(&sandbox, "/sandbox/stats").await;
    assert_eq!((&stats["requests"], &stats["deletions"][0]["by"]), (&json!(2), &json!("colleague")));
}

#[test]
fn the_sandbox_is_an_independent_witness() {
    let mut folders = vec![std::path::PathBuf::from("src/sandbox")];
    let mut read = 0;
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let text = std::fs::read_to_string(&path).unwrap();
            for line in text.lines().filter(|line| line.trim_start().starts_with("use crate::")) {
                let allowed = ["use crate::sandbox::", "use crate::clock::"];
                assert!(allowed.iter().any(|start| line.starts_with(start)), "{path:?}: {line}");
            }
            read += 1;
        }
    }
    assert!(read > 15);
}
