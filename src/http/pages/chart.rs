//! A count a day as bars, and the same as a table: the picture is for the eye, the table for everybody.

use jiff::civil::Date;

/// The picture in its own units; the page scales it.
const WIDTH: u32 = 600;
const HEIGHT: u32 = 150;
/// Where the bars stand, above the line with the days.
const FLOOR: u32 = 128;
/// Room above the highest bar, for its number.
const CEILING: u32 = 18;

/// Counts of consecutive days.
pub(super) struct Chart {
    /// Distinguishes it from other charts of the page.
    pub(super) id: &'static str,
    /// What is counted: `Leads deleted`.
    pub(super) what: &'static str,
    /// How a bar is painted: a class of the style sheet.
    pub(super) paint: &'static str,
    /// The oldest first.
    pub(super) days: Vec<(Date, u64)>,
}

/// A bar.
pub(super) struct Bar {
    pub(super) x: u32,
    pub(super) y: u32,
    pub(super) width: u32,
    pub(super) height: u32,
    /// What it says when it is pointed at.
    pub(super) title: String,
}

impl Chart {
    /// All days together.
    pub(super) fn total(&self) -> u64 {
        self.days.iter().map(|(_, count)| count).sum()
    }

    /// The most in one day.
    pub(super) fn most(&self) -> u64 {
        self.days.iter().map(|(_, count)| *count).max().unwrap_or_default()
    }

    /// The picture in words.
    pub(super) fn label(&self) -> String {
        let span = match (self.days.first(), self.days.last()) {
            (Some((first, _)), Some((last, _))) => format!(" from {first} to {last}"),
            (_, _) => String::new(),
        };
        let total = self.total();
        format!("{}{span}: {total} in all, at most {} in a day", self.what, self.most())
    }

    /// The bars. A day with anything at all has one that can be seen.
    pub(super) fn bars(&self) -> Vec<Bar> {
        let step = WIDTH / u32::try_from(self.days.len().max(1)).unwrap_or(WIDTH);
        let most = self.most().max(1);
        let bar = |(at, (day, count)): (u32, &(Date, u64))| {
            let full = u128::from(FLOOR - CEILING);
            let scaled = u128::from(*count) * full / u128::from(most);
            let height = u32::try_from(scaled).unwrap_or(FLOOR).max(u32::from(*count > 0) * 2);
            Bar {
                x: at * step + 1,
                y: FLOOR - height,
                width: step.saturating_sub(2).max(1),
                height,
                title: format!("{day}: {count}"),
            }
        };
        (0..).zip(&self.days).map(bar).collect()
    }

    /// The picture's measures: width, height, the height of the floor.
    pub(super) fn frame(&self) -> (u32, u32, u32) {
        (WIDTH, HEIGHT, FLOOR)
    }

    /// The days at both ends.
    pub(super) fn ends(&self) -> (String, String) {
        let text = |day: Option<&(Date, u64)>| day.map(|(day, _)| day.to_string()).unwrap_or_default();
        (text(self.days.first()), text(self.days.last()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_fit_their_picture_whatever_the_counts_and_a_day_with_anything_shows() {
        let day = |at: i8| Date::constant(2026, 11, at);
        for counts in [vec![], vec![0, 0], vec![1, u64::MAX / 2], vec![0, 1, 1_000_000]] {
            let days = (1..).map(day).zip(counts.iter().copied()).collect();
            let chart = Chart { id: "x", what: "X", paint: "bar", days };
            for (bar, count) in chart.bars().iter().zip(&counts) {
                assert!(bar.x + bar.width <= WIDTH && bar.y >= CEILING && bar.y + bar.height == FLOOR);
                assert_eq!(bar.height > 0, *count > 0);
            }
        }
    }
}
