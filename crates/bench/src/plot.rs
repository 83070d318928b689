//! The plot of `docs/performance.md`: how many of 1,000 jobs have their create, over the time since
//! they all became visible. An SVG that reads well on light and on dark pages.

use maud::{Markup, PreEscaped, html};

use crate::figures::Figure;
use crate::record::{Book, Curve, Curves, float};

const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 420.0;
const LEFT: f64 = 74.0;
const RIGHT: f64 = 24.0;
const TOP: f64 = 46.0;
const BOTTOM: f64 = 58.0;
/// The axis of time is logarithmic: the peer's two figures are forty times apart.
const FIRST_S: f64 = 0.05;
const LAST_S: f64 = 200.0;
const TICKS_S: [f64; 10] = [0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 100.0];
const PARTS: usize = 4;
/// The peer's last create, tuned and as shipped, in seconds; which end of its name lies there, and
/// how far below: side by side there is no room for both.
const PEER_S: [(f64, &str, &str, f64); 2] =
    [(2.3, "tuned", "start", 24.0), (98.9, "as shipped", "end", -12.0)];

const STYLE: &str = "
text { font: 13px system-ui, sans-serif; fill: #1f2328; }
.paper { fill: #ffffff; }
.grid { stroke: #d1d9e0; stroke-width: 1; }
.axis { stroke: #59636e; stroke-width: 1.2; }
.curve { fill: none; stroke-width: 2.4; stroke-linejoin: round; }
.jitney { stroke: #0969da; } text.jitney { stroke: none; fill: #0969da; }
.bare { stroke: #818b98; stroke-dasharray: 5 4; } text.bare { stroke: none; fill: #59636e; }
.peer { fill: #bc4c00; }
@media (prefers-color-scheme: dark) {
text { fill: #e6edf3; }
.paper { fill: #0d1117; }
.grid { stroke: #30363d; }
.axis { stroke: #9198a1; }
.jitney { stroke: #58a6ff; } text.jitney { fill: #58a6ff; }
.bare { stroke: #9198a1; } text.bare { fill: #9198a1; }
.peer { fill: #f0883e; }
}
";

/// Nothing where there is no curve yet.
pub(crate) fn draw(book: &Book) -> Option<String> {
    let curves = &book.0.get(&Figure::T2)?.curves;
    let jobs = curves.iter().map(|curve| curve.jobs).max()?;
    let drawing = html! {
        svg xmlns="http://www.w3.org/2000/svg" viewBox=(format!("0 0 {WIDTH} {HEIGHT}")) role="img" {
            title { (format!("{jobs} jobs at once: how many have their create, over time")) }
            style { (PreEscaped(STYLE)) }
            rect class="paper" width=(WIDTH) height=(HEIGHT) {}
            (axes(jobs))
            @for curve in curves { (drawn(curve)) }
            @for (at, words, anchor, below) in PEER_S { (peer(at, words, anchor, below)) }
        }
    };
    Some(drawing.into_string() + "\n")
}

fn axes(jobs: usize) -> Markup {
    let (bottom, right) = (HEIGHT - BOTTOM, WIDTH - RIGHT);
    let middle = (LEFT + right) / 2.0;
    html! {
        @for part in 0..=PARTS {
            @let count = jobs * part / PARTS;
            @let y = height(float(part) / float(PARTS));
            line class="grid" x1=(LEFT) x2=(right) y1=(y) y2=(y) {}
            text x=(LEFT - 8.0) y=(y + 4.5) text-anchor="end" { (count) }
        }
        @for tick in TICKS_S {
            @let x = place(tick);
            line class="grid" x1=(x) x2=(x) y1=(TOP) y2=(bottom) {}
            text x=(x) y=(bottom + 18.0) text-anchor="middle" { (seconds(tick)) }
        }
        line class="axis" x1=(LEFT) x2=(right) y1=(bottom) y2=(bottom) {}
        line class="axis" x1=(LEFT) x2=(LEFT) y1=(TOP) y2=(bottom) {}
        text x=(middle) y=(HEIGHT - 14.0) text-anchor="middle" {
            "time since all jobs became visible (logarithmic)"
        }
        text x=(LEFT) y="24" { "jobs that have their create" }
    }
}

fn drawn(curve: &Curve) -> Markup {
    let (class, name) = match curve.of {
        Curves::Jitney => ("jitney", "Jitney"),
        Curves::BareLoop => ("bare", "bare loop"),
    };
    let mut points = String::new();
    for (hundredths, millis) in curve.millis.iter().enumerate() {
        let (x, y) = (place(millis / 1000.0), height(float(hundredths) / 100.0));
        points.push_str(&format!("{x:.1},{y:.1} "));
    }
    let last = curve.millis.last().copied().unwrap_or_default() / 1000.0;
    // One name to the right of its curve, the other to the left.
    let (side, anchor, share) = match curve.of {
        Curves::Jitney => (8.0, "start", 0.4),
        Curves::BareLoop => (-8.0, "end", 0.75),
    };
    let beside = curve.millis.iter().rev().nth(if share < 0.5 { 60 } else { 25 });
    let x = place(beside.copied().unwrap_or_default() / 1000.0) + side;
    html! {
        polyline class=(format!("curve {class}")) points=(points.trim_end()) {}
        text class=(class) x=(format!("{x:.1}")) y=(format!("{:.1}", height(share)))
            text-anchor=(anchor) { (format!("{name}: {last:.2} s")) }
    }
}

fn peer(at: f64, words: &str, anchor: &str, below: f64) -> Markup {
    let (x, y) = (place(at), height(1.0));
    html! {
        circle class="peer" cx=(format!("{x:.1}")) cy=(y) r="5" {}
        text class="peer" x=(format!("{x:.1}")) y=(y + below) text-anchor=(anchor) {
            (format!("agent-stack-k8s 0.47, {words}: {at} s"))
        }
    }
}

/// Where a moment lies on the axis of time.
fn place(at: f64) -> f64 {
    let share = (at.max(FIRST_S) / FIRST_S).ln() / (LAST_S / FIRST_S).ln();
    LEFT + share * (WIDTH - LEFT - RIGHT)
}

fn height(share: f64) -> f64 {
    HEIGHT - BOTTOM - share * (HEIGHT - BOTTOM - TOP)
}

fn seconds(tick: f64) -> String {
    if tick < 1.0 { format!("{:.0} ms", tick * 1000.0) } else { format!("{tick:.0} s") }
}
