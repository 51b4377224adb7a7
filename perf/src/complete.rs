//! `xswan-perf report`: every part, one folder with tables, figures and numbers.

use crate::figure::Figure;
use crate::idle;
use crate::machine::{self, Clock};
use crate::memory::{self, INNER_BYTES, Million, Plan, Row};
use crate::report;
use clap::{Args, ValueEnum};
use serde_json::{Map, Value, json};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;
use xswan_benches::gateways::BURST;
use xswan_testkit::failure::{Failure, Outcome};
use xswan_testkit::netns;

/// What can be measured alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Part {
    /// Bursts through the engine from memory, and bursts of other lengths.
    Memory,
    /// Processor time of a gateway with nothing to do.
    Idle,
}

/// `xswan-perf report`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// More runs, and a million SAs with every back-end.
    #[arg(long)]
    full: bool,
    /// One part alone.
    #[arg(long)]
    only: Option<Part>,
    /// Where to write the numbers, beside report.json in the folder.
    #[arg(long)]
    json: Option<PathBuf>,
    /// The folder for tables, figures and numbers.
    #[arg(long, default_value = "target/perf")]
    folder: PathBuf,
}

/// What was found, as text for people, numbers for programs and figures.
struct Findings {
    text: String,
    numbers: Map<String, Value>,
    figures: Vec<(&'static str, String)>,
}

/// Measures and writes the report.
pub fn measure(arguments: &Arguments) -> Outcome<()> {
    let wants = |part| arguments.only.is_none_or(|only| only == part);
    let mut found = Findings { text: String::new(), numbers: Map::new(), figures: Vec::new() };
    let begin = pinned(Clock::read)?;
    if wants(Part::Memory) {
        let plan = Plan {
            runs: if arguments.full { 11 } else { 5 },
            run: Duration::from_millis(if arguments.full { 150 } else { 60 }),
            million: if arguments.full { Million::Everyone } else { Million::Fastest },
        };
        report::progress("from memory: back-ends, SAs and sizes in turn");
        let rows = pinned(|| memory::measure(plan))??;
        report::progress("from memory: lengths of a burst");
        let bursts = pinned(|| memory::bursts(plan))??;
        found.add_memory(&rows, &bursts, begin.is_steady(&pinned(Clock::read)?));
    }
    if wants(Part::Idle) {
        match netns::privileged() {
            Ok(()) => {
                report::progress("idle gateways");
                found.add_idle(&idle::measure()?);
            }
            Err(why) => found.add_left_out("idle", &why),
        }
    }
    let machine = machine::describe(begin, pinned(Clock::read)?);
    found.write(machine, &arguments.folder, arguments.json.as_deref())
}

/// Works on a thread of its own on the last core: daemons started later do not inherit it.
fn pinned<T: Send>(work: impl FnOnce() -> T + Send) -> Outcome<T> {
    let work = || {
        xswan_benches::measure::pin();
        work()
    };
    std::thread::scope(|scope| scope.spawn(work).join())
        .map_err(|_| Failure::new("a measurement panicked"))
}

impl Findings {
    /// A part that could not run here, and why.
    fn add_left_out(&mut self, part: &str, why: &str) {
        let _ = writeln!(self.text, "## Left out: {part}\n\n{why}\n");
        self.numbers.insert(part.to_owned(), json!([]));
    }

    fn add_memory(&mut self, rows: &[Row], bursts: &[Row], steady_clock: bool) {
        let numbers = |rows: &[Row]| rows.iter().map(|row| row.json(steady_clock)).collect();
        self.numbers.insert("memory".to_owned(), Value::Array(numbers(rows)));
        self.numbers.insert("bursts".to_owned(), Value::Array(numbers(bursts)));
        self.text.push_str(
            "## From memory\n\nTicks of the time stamp counter a packet, AES-128-GCM, ESP \
             tunnel mode in IPv4, one pinned core, replay window on, packets visit the SAs in \
             turn, packet source excluded. Sizes are of the inner IP packet. Medians of \
             interleaved runs, the spread ((highest - lowest) / median) in brackets; `!` marks \
             what is not to be trusted.\n\n| direction | cipher | SAs | workers |",
        );
        INNER_BYTES.iter().for_each(|inner| _ = write!(self.text, " {inner} |"));
        self.text.push_str("\n|---|---|---|---|---|---|---|\n");
        self.table(rows, steady_clock, |row| {
            format!("| {} | {} | {} | {} |", row.direction, row.aead, row.sas, row.workers)
        });
        self.text.push_str("\n### Length of a burst\n\n| direction | SAs | packets |");
        INNER_BYTES.iter().for_each(|inner| _ = write!(self.text, " {inner} |"));
        self.text.push_str("\n|---|---|---|---|---|---|\n");
        self.table(bursts, steady_clock, |row| {
            format!("| {} | {} | {} |", row.direction, row.sas, row.burst)
        });
        self.text.push('\n');
        for direction in ["encrypt", "decrypt"] {
            self.figures.push((direction, by_sas(rows, direction)));
        }
        self.figures.push(("burst", by_burst(bursts)));
    }

    /// A line for each name, in the order of appearance; one column for each size.
    fn table(&mut self, rows: &[Row], steady_clock: bool, name: impl Fn(&Row) -> String) {
        let mut names: Vec<String> = Vec::new();
        for row in rows {
            let name = name(row);
            if !names.contains(&name) {
                names.push(name);
            }
        }
        names.sort_by_key(|name| name.contains("decrypt"));
        for line in names {
            self.text.push_str(&line);
            for inner in INNER_BYTES {
                let row = rows.iter().find(|row| row.inner == inner && name(row) == line);
                let cell = row.map_or("-".to_owned(), |row| cell(row, steady_clock));
                let _ = write!(self.text, " {cell} |");
            }
            self.text.push('\n');
        }
    }

    fn add_idle(&mut self, rows: &[idle::Row]) {
        self.numbers.insert("idle".to_owned(), rows.iter().map(idle::Row::json).collect());
        self.text.push_str(
            "## Idle\n\nSeconds of processor time that a gateway with one worker and nothing to \
             do takes a second.\n\n| wait | dataplane | control |\n|---|---|---|\n",
        );
        for row in rows {
            let _ =
                writeln!(self.text, "| {} | {:.3} | {:.3} |", row.wait, row.dataplane, row.control);
        }
        self.text.push('\n');
    }

    fn write(mut self, machine: Value, folder: &Path, also: Option<&Path>) -> Outcome<()> {
        std::fs::create_dir_all(folder)?;
        let mut text = "# xswan measured\n\n".to_owned();
        if machine["steady_clock"] == false {
            text.push_str(
                "**Not to be trusted: the core's clock changed between beginning and end.**\n\n",
            );
        }
        text.push_str(&self.text);
        text.push_str("## Machine\n\n```json\n");
        let _ = writeln!(text, "{machine:#}\n```");
        for (name, svg) in &self.figures {
            std::fs::write(folder.join(format!("{name}.svg")), svg)?;
            let _ = write!(text, "\n![{name}]({name}.svg)\n");
        }
        self.numbers.insert("machine".to_owned(), machine);
        let numbers = format!("{:#}\n", Value::Object(self.numbers));
        std::fs::write(folder.join("report.md"), &text)?;
        std::fs::write(folder.join("report.json"), &numbers)?;
        if let Some(path) = also {
            std::fs::write(path, &numbers)?;
        }
        report::written(&text, folder);
        Ok(())
    }
}

fn cell(row: &Row, steady_clock: bool) -> String {
    let mark = if steady_clock && row.is_steady() { "" } else { " !" };
    format!("{:.0} ({:.0} %){mark}", row.tsc_per_packet(), 100.0 * row.spread())
}

fn by_sas(rows: &[Row], direction: &str) -> String {
    let mut marks: Vec<u32> = rows.iter().map(|row| row.sas).collect();
    marks.sort_unstable();
    marks.dedup();
    let best = xswan_aead::Backend::fastest().name();
    let value = |inner, sas| {
        let same = |row: &&Row| {
            (row.direction, row.aead, row.inner, row.sas) == (direction, best, inner, sas)
        };
        rows.iter().find(same).map_or(f64::NAN, Row::tsc_per_packet)
    };
    let line = |inner: usize| {
        (format!("{inner} bytes"), marks.iter().map(|sas| value(inner, *sas)).collect())
    };
    let figure = Figure {
        title: &format!("{direction} from memory, {best}"),
        bottom: "SAs, visited in turn",
        side: "TSC ticks a packet",
        lines: INNER_BYTES.into_iter().map(line).collect(),
        marks: marks.iter().map(u32::to_string).collect(),
    };
    figure.svg()
}

fn by_burst(rows: &[Row]) -> String {
    let mut marks: Vec<usize> = rows.iter().map(|row| row.burst).collect();
    marks.sort_unstable();
    marks.dedup();
    let line = |(direction, sas): (&str, u32)| {
        let value = |burst: &usize| {
            let same = |row: &&Row| {
                (row.direction, row.sas, row.burst, row.inner) == (direction, sas, *burst, 64)
            };
            rows.iter().find(same).map_or(f64::NAN, Row::tsc_per_packet)
        };
        (format!("{direction}, {sas} SAs"), marks.iter().map(value).collect())
    };
    let kinds = [("encrypt", 1), ("decrypt", 1), ("encrypt", 1024), ("decrypt", 1024)];
    let figure = Figure {
        title: &format!("64 bytes from memory by length of the burst ({BURST} is ours)"),
        bottom: "packets in a burst",
        side: "TSC ticks a packet",
        lines: kinds.into_iter().map(line).collect(),
        marks: marks.iter().map(usize::to_string).collect(),
    };
    figure.svg()
}
