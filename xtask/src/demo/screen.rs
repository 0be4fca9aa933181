//! What the demo shows while it runs: figures that change in place on a terminal, a line a second elsewhere.

use std::{
    fmt::Write as _,
    io::{self, IsTerminal, Write},
    time::Duration,
};

use super::tally::Latency;

/// The state of the demo at a moment.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Figures {
    /// Since the devices started.
    pub(crate) elapsed: Duration,
    pub(crate) published: u64,
    pub(crate) delivered: u64,
    pub(crate) acked: u64,
    /// Pushed by the platform and not settled yet.
    pub(crate) in_flight: u64,
    pub(crate) backlog: u64,
    /// Acknowledged messages per second, lately.
    pub(crate) rate: f64,
    pub(crate) latency: Latency,
}

/// Where the demo is shown.
pub(crate) struct Screen {
    out: Box<dyn Write>,
    in_place: bool,
    /// How many lines of figures stand above the cursor.
    drawn: usize,
    last_line: Option<Duration>,
    gone: bool,
}

impl Screen {
    /// Shows on standard output, or on standard error if that is wanted free for the result.
    pub(crate) fn new(stdout_is_taken: bool) -> Self {
        let (out, in_place): (Box<dyn Write>, bool) = if stdout_is_taken {
            (Box::new(io::stderr()), io::stderr().is_terminal())
        } else {
            (Box::new(io::stdout()), io::stdout().is_terminal())
        };
        Self { out, in_place, drawn: 0, last_line: None, gone: false }
    }

    /// Whether nobody can see it any more: the terminal was closed, or the reader of a pipe has ended.
    pub(crate) fn is_gone(&self) -> bool {
        self.gone
    }

    /// Shows the figures: in place of the former ones on a terminal, else as a line, at most once a second.
    pub(crate) fn figures(&mut self, figures: &Figures) {
        self.gone |= self.try_figures(figures).is_err();
    }

    /// Shows a line that stays.
    pub(crate) fn say(&mut self, text: &str) {
        self.gone |= self.try_say(text).is_err();
    }

    fn try_figures(&mut self, figures: &Figures) -> io::Result<()> {
        if self.in_place {
            let block = block(figures);
            self.erase()?;
            self.drawn = block.lines().count();
            self.out.write_all(block.as_bytes())?;
        } else if self.last_line.is_none_or(|last| figures.elapsed >= last + Duration::from_secs(1)) {
            self.last_line = Some(Duration::from_secs(figures.elapsed.as_secs()));
            writeln!(self.out, "{}", line(figures))?;
        }
        self.out.flush()
    }

    fn try_say(&mut self, text: &str) -> io::Result<()> {
        self.erase()?;
        writeln!(self.out, "{text}")?;
        self.out.flush()
    }

    fn erase(&mut self) -> io::Result<()> {
        if self.drawn > 0 {
            // Up to the first line of the figures, then clear to the end of the screen.
            write!(self.out, "\x1b[{}F\x1b[J", self.drawn)?;
            self.drawn = 0;
        }
        Ok(())
    }
}

fn block(figures: &Figures) -> String {
    let mut block = String::new();
    let row = |name: &str, value: String| format!("{name:<10}{value:>11}   ");
    block += &row("published", grouped(figures.published));
    block += &row("delivered", grouped(figures.delivered));
    let _ = writeln!(block, "{}", row("acked", grouped(figures.acked)).trim_end());
    block += &row("in flight", grouped(figures.in_flight));
    block += &row("backlog", grouped(figures.backlog));
    let _ = writeln!(block, "{}", row("rate", format!("{:.0}/s", figures.rate)).trim_end());
    block += &row("p50", milliseconds(figures.latency.p50_us));
    block += &row("p99", milliseconds(figures.latency.p99_us));
    let _ = writeln!(block, "{}", row("time", format!("{} s", figures.elapsed.as_secs())).trim_end());
    block
}

fn line(figures: &Figures) -> String {
    let Figures { elapsed, published, delivered, acked, in_flight, backlog, rate, latency } = figures;
    format!(
        "{} s: published {published}, delivered {delivered}, acked {acked}, in flight {in_flight}, backlog {backlog}, \
         rate {rate:.0}/s, p50 {}, p99 {}",
        elapsed.as_secs(),
        milliseconds(latency.p50_us),
        milliseconds(latency.p99_us),
    )
}

/// Microseconds as milliseconds, with as many digits as are worth reading.
pub(crate) fn milliseconds(us: u64) -> String {
    if us < 10_000 { format!("{}.{:02} ms", us / 1000, us % 1000 / 10) } else { format!("{} ms", grouped(us / 1000)) }
}

/// A number with its digits in groups of three.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut grouped = String::with_capacity(digits.len() + digits.len() / 3);
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

#[cfg(test)]
mod tests {
    use std::{cell::RefCell, rc::Rc};

    use super::*;

    #[derive(Clone, Default)]
    struct Shared(Rc<RefCell<Vec<u8>>>);

    impl Write for Shared {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.borrow_mut().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Shared {
        fn text(&self) -> String {
            String::from_utf8(self.0.borrow().clone()).unwrap()
        }
    }

    fn screen(in_place: bool) -> (Screen, Shared) {
        let shared = Shared::default();
        (Screen { out: Box::new(shared.clone()), in_place, drawn: 0, last_line: None, gone: false }, shared)
    }

    fn figures_at(milliseconds: u64) -> Figures {
        Figures {
            elapsed: Duration::from_millis(milliseconds),
            published: 12_345,
            latency: Latency { p50_us: 1_234, p99_us: 20_500 },
            rate: 799.6,
            ..Figures::default()
        }
    }

    #[test]
    fn digits_are_grouped_by_three() {
        let shown: Vec<String> = [0, 999, 1_000, 12_345, 1_234_567].into_iter().map(grouped).collect();
        assert_eq!(shown, ["0", "999", "1,000", "12,345", "1,234,567"]);
    }

    #[test]
    fn short_times_show_more_digits_than_long_ones() {
        assert_eq!(milliseconds(87), "0.08 ms");
        assert_eq!(milliseconds(1_234), "1.23 ms");
        assert_eq!(milliseconds(12_345), "12 ms");
        assert_eq!(milliseconds(5_000_000), "5,000 ms");
    }

    #[test]
    fn a_line_names_every_figure() {
        assert_eq!(
            line(&figures_at(3_999)),
            "3 s: published 12345, delivered 0, acked 0, in flight 0, backlog 0, rate 800/s, p50 1.23 ms, p99 20 ms"
        );
    }

    #[test]
    fn a_block_fits_a_terminal_of_80_columns() {
        let figures = Figures { published: u64::from(u32::MAX), ..figures_at(1) };
        assert!(block(&figures).lines().all(|line| line.len() < 80));
    }

    #[test]
    fn figures_on_a_terminal_take_the_place_of_the_former_ones() {
        let (mut screen, shown) = screen(true);
        screen.figures(&figures_at(0));
        screen.figures(&figures_at(100));
        let block = block(&figures_at(0));
        assert_eq!(shown.text(), format!("{block}\x1b[3F\x1b[J{block}"));
    }

    #[test]
    fn what_is_said_stays_above_the_figures() {
        let (mut screen, shown) = screen(true);
        screen.figures(&figures_at(0));
        screen.say("restarted");
        screen.figures(&figures_at(0));
        let block = block(&figures_at(0));
        assert_eq!(shown.text(), format!("{block}\x1b[3F\x1b[Jrestarted\n{block}"));
    }

    #[test]
    fn lines_come_once_a_second_and_without_escapes() {
        let (mut screen, shown) = screen(false);
        for at in [0, 400, 1_010, 1_900, 2_005] {
            screen.figures(&figures_at(at));
        }
        let text = shown.text();
        let seconds: Vec<&str> = text.lines().filter_map(|line| line.split(':').next()).collect();
        assert_eq!(seconds, ["0 s", "1 s", "2 s"]);
        assert!(!text.contains('\x1b'));
    }

    #[test]
    fn a_terminal_that_is_closed_is_noticed_and_nothing_else() {
        struct Closed;

        impl Write for Closed {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::BrokenPipe.into())
            }

            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }

        let (mut screen, _) = screen(true);
        screen.figures(&figures_at(0));
        assert!(!screen.is_gone());
        screen.out = Box::new(Closed);
        screen.figures(&figures_at(0));
        screen.say("nobody hears it");
        assert!(screen.is_gone());
    }
}
