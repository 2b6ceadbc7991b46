use b24_janitor::core::notice::{Happening, Occasion};
use b24_janitor::store::notices::{self, MAX_WAITING};
use rusqlite::Connection;

use crate::support::{on_db, t};

fn tell(db: &Connection, times: u64) {
    for run in 0..times {
        let run = i64::try_from(run).unwrap() + 1;
        let held = Happening::Held { run, rule: "junk".to_owned(), leads: 3, at: t(0) };
        notices::tell(db, &held, t(0)).unwrap();
    }
}

#[test]
fn what_happens_while_a_full_queue_is_on_its_way_is_told_with_the_next() {
    on_db(|db| {
        notices::subscribe(db, &[("ops".to_owned(), Occasion::Held)], t(0)).unwrap();
        tell(db, MAX_WAITING + 20);
        let mut told = 0;
        let mut late = 7;
        while let Some(head) = notices::heads(db).unwrap().pop() {
            tell(db, late);
            late = 0;
            notices::sent(db, &head, t(1)).unwrap();
            told += 1 + head.more;
        }
        assert_eq!(told, MAX_WAITING + 27);
    });
}
