//! What stories look up in their world, which leads they put into it, and what must hold of it at the end.

use super::*;

impl World {
    /// Every job, by id.
    pub(crate) async fn jobs(&self) -> Vec<Job> {
        let filter = JobFilter { limit: 100_000, ..JobFilter::default() };
        self.read(move |db| jobs::list(db, &filter)).await
    }

    /// The jobs of a lead, the first first.
    pub(crate) async fn jobs_of(&self, lead: u32) -> Vec<Job> {
        let filter = JobFilter { lead: Some(id(lead)), limit: 1000, ..JobFilter::default() };
        self.read(move |db| jobs::list(db, &filter)).await
    }

    /// The last job of a lead.
    pub(crate) async fn job(&self, lead: u32) -> Job {
        self.jobs_of(lead).await.pop().unwrap_or_else(|| panic!("lead {lead} has no job"))
    }

    pub(crate) async fn outcome(&self, lead: u32) -> Option<Outcome> {
        self.job(lead).await.outcome
    }

    pub(crate) async fn counts(&self) -> JobCounts {
        self.read(jobs::counts).await
    }

    /// Every run, the first first.
    pub(crate) async fn runs(&self) -> Vec<Run> {
        let filter = RunFilter { limit: 10_000, ..RunFilter::default() };
        let mut runs = self.read(move |db| runs::list(db, &filter)).await;
        runs.reverse();
        runs
    }

    pub(crate) async fn last_run(&self) -> Run {
        self.runs().await.pop().expect("a rule ran")
    }

    pub(crate) async fn copy(&self, lead: u32) -> Option<copies::Copy> {
        self.read(move |db| copies::get(db, id(lead))).await
    }

    pub(crate) async fn stopped(&self) -> bool {
        self.read(|db| Ok(control::portal_stop(db)?.is_some())).await
    }

    /// Adds a lead without an event and counts it among the known ones.
    pub(crate) fn lead(&mut self, stage: &str) -> u32 {
        let mut lead = Lead::new("a lead", self.now());
        lead.move_to(stage, lead.created);
        self.place(lead)
    }

    pub(crate) fn place(&mut self, lead: Lead) -> u32 {
        let id = self.sandbox.insert(lead);
        self.known.insert(id);
        id
    }

    /// A form adds a lead, with its event.
    pub(crate) fn arrives(&mut self, lead: Lead) -> u32 {
        let id = self.sandbox.add_lead(lead);
        self.known.insert(id);
        id
    }

    /// A lead of this stage, created now.
    pub(crate) fn fresh(&self, stage: &str) -> Lead {
        let mut lead = Lead::new("a lead", self.now());
        lead.move_to(stage, lead.created);
        lead
    }

    pub(crate) fn exists(&self, lead: u32) -> bool {
        self.sandbox.lead(lead).is_some()
    }

    /// Exactly these are gone by our hand, and every other known lead is there or was deleted by a colleague.
    pub(crate) fn assert_only_deleted(&self, expected: &[u32]) {
        let expected: BTreeSet<u32> = expected.iter().copied().collect();
        let stats = self.sandbox.stats();
        let of = |colleague: bool| {
            let by = stats.deletions.iter().filter(move |gone| (gone.by == "colleague") == colleague);
            by.map(|gone| gone.id).collect::<Vec<u32>>()
        };
        let ours = of(false);
        let deleted: BTreeSet<u32> = ours.iter().copied().collect();
        let wrong: Vec<_> = deleted.difference(&expected).collect();
        let missed: Vec<_> = expected.difference(&deleted).collect();
        assert!(wrong.is_empty(), "deleted and should not be: {wrong:?}");
        assert!(missed.is_empty(), "should be deleted and are not: {missed:?}");
        assert_eq!(ours.len(), deleted.len(), "a lead was deleted twice");
        let colleagues: BTreeSet<u32> = of(true).into_iter().collect();
        for lead in &self.known {
            assert!(
                self.exists(*lead) != (deleted.contains(lead) || colleagues.contains(lead)),
                "lead {lead}"
            );
        }
    }

    /// The numbers of every enqueued and held run add up, and every finished job tells a consistent story.
    pub(crate) async fn assert_adds_up(&self) {
        let runs = self.runs().await;
        let jobs = self.jobs().await;
        let mut by_run: BTreeMap<i64, u64> = BTreeMap::new();
        for job in &jobs {
            *by_run.entry(job.run_id.0).or_default() += 1;
            assert_eq!(job.outcome.is_some(), job.finished_at.is_some(), "{job:?}");
        }
        for run in &runs {
            match run.state {
                RunState::Enqueued => {
                    assert_eq!(run.matched, run.protected + run.already_waiting + run.enqueued, "{run:?}");
                    assert_eq!(by_run.get(&run.id.0).copied().unwrap_or(0), run.enqueued, "{run:?}");
                }
                RunState::Held => {
                    assert_eq!(
                        run.matched,
                        run.protected + run.already_waiting + run.would_enqueue,
                        "{run:?}"
                    );
                }
                RunState::Running | RunState::Planned | RunState::Failed => {}
            }
            if run.state != RunState::Enqueued {
                assert_eq!(by_run.get(&run.id.0), None, "{run:?} has jobs");
            }
        }
        for job in &jobs {
            let attempts = {
                let id = job.id;
                self.read(move |db| jobs::attempts_of(db, id)).await
            };
            if job.finished_at.is_some() {
                assert!(attempts.iter().all(|line| line.ended_at.is_some()), "{job:?} {attempts:?}");
            }
            let ours = self.sandbox.stats().deletions;
            if job.outcome == Some(Outcome::Deleted) {
                assert!(
                    ours.iter().any(|gone| gone.id == job.lead_id.get() && gone.by != "colleague"),
                    "{job:?} says deleted, the portal does not"
                );
                assert!(!attempts.is_empty(), "{job:?}");
            }
        }
    }

    /// No request was refused for our pace.
    pub(crate) fn assert_within_limits(&self) {
        let stats = self.sandbox.stats();
        assert_eq!((stats.refused_503, stats.refused_429), (0, 0), "the portal refused for our pace");
    }

    /// Every byte of the database and its log, whether SQLite still reads it or not.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        for entry in std::fs::read_dir(self.file.parent().unwrap()).unwrap() {
            bytes.extend(std::fs::read(entry.unwrap().path()).unwrap());
        }
        bytes
    }

    /// Every text of the database, by table, copies apart.
    pub(crate) async fn dump(&self) -> Vec<(String, String)> {
        self.read(|db| {
            let tables: Vec<String> = db
                .prepare("SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%'")?
                .query_map([], |row| row.get(0))?
                .collect::<rusqlite::Result<_>>()?;
            let mut texts = Vec::new();
            for table in tables.into_iter().filter(|table| table != "copies") {
                let mut statement = db.prepare(&format!("SELECT * FROM {table}"))?;
                let columns = statement.column_count();
                let mut rows = statement.query([])?;
                while let Some(row) = rows.next()? {
                    for column in 0..columns {
                        if let ValueRef::Text(text) = row.get_ref(column)? {
                            texts.push((table.clone(), String::from_utf8_lossy(text).into_owned()));
                        }
                    }
                }
            }
            Ok(texts)
        })
        .await
    }
}
