//! What our objects bear: labels to be found by, annotations for what does not fit a label. Read
//! back they are exactly what was written.

use std::collections::BTreeMap;

use uuid::Uuid;

use crate::contract::{Labels, Order};

/// What the names of all of them begin with.
pub(super) const OURS: &str = "jitney.dev/";
pub(super) const MARK: &str = "jitney.dev/mark";
pub(super) const JOB: &str = "jitney.dev/job";
pub(super) const ATTEMPT: &str = "jitney.dev/attempt";
/// A label where it fits one, an annotation else.
pub(super) const DISPATCH: &str = "jitney.dev/dispatch";
const INSTANCE: &str = "jitney.dev/instance";
const QUEUE: &str = "jitney.dev/queue";
const CPU: &str = "jitney.dev/cpu-millis";
const MEMORY: &str = "jitney.dev/memory-bytes";
const REQUEST: &str = "jitney.dev/request";
/// Which Secret holds its token.
pub(super) const SECRET: &str = "jitney.dev/secret";
pub(super) const DEADLINE: &str = "jitney.dev/deadline-seconds";
/// On what is kept for a look, in the place of the mark: whose it was.
pub(super) const KEPT: &str = "jitney.dev/kept-for";

/// The longest value of a label.
const LONGEST_LABEL: usize = 63;

type Texts = BTreeMap<String, String>;

pub(super) fn labels(order: &Order) -> Texts {
    let of = &order.labels;
    let mut labels = texts([
        (MARK, of.mark.to_string()),
        (JOB, of.job.to_string()),
        (ATTEMPT, of.attempt.to_string()),
    ]);
    if fits_label(&of.dispatch_id) {
        labels.insert(DISPATCH.to_owned(), of.dispatch_id.to_string());
    }
    labels
}

pub(super) fn annotations(order: &Order, secret: &str) -> Texts {
    let of = &order.labels;
    let mut annotations = texts([
        (INSTANCE, of.instance.to_string()),
        (QUEUE, of.queue.to_string()),
        (CPU, of.cpu_millis.to_string()),
        (MEMORY, of.memory_bytes.to_string()),
        (REQUEST, order.request_id.to_string()),
        (SECRET, secret.to_owned()),
        (DEADLINE, seconds(order.deadline).to_string()),
    ]);
    if !fits_label(&of.dispatch_id) {
        annotations.insert(DISPATCH.to_owned(), of.dispatch_id.to_string());
    }
    annotations
}

/// What an object bears that has our mark; an error names what cannot be read.
pub(super) fn read(labels: &Texts, annotations: &Texts) -> Result<Labels, String> {
    let text = |name: &str| labels.get(name).or_else(|| annotations.get(name));
    let missing = |name: &str| format!("it bears no {name}");
    let kept = |name: &str| text(name).map(String::as_str).ok_or_else(|| missing(name));
    let unreadable = |name: &str, value: &str| format!("its {name} cannot be read: `{value}`");
    let job = kept(JOB)?;
    let number = |name: &str| {
        let value = kept(name)?;
        value.parse::<u64>().map_err(|_| unreadable(name, value))
    };
    let small = |name: &str| {
        let value = number(name)?;
        u32::try_from(value).map_err(|_| unreadable(name, &value.to_string()))
    };
    Ok(Labels {
        mark: kept(MARK)?.into(),
        instance: kept(INSTANCE)?.into(),
        job: Uuid::parse_str(job).map_err(|_| unreadable(JOB, job))?,
        attempt: small(ATTEMPT)?,
        queue: kept(QUEUE)?.into(),
        dispatch_id: kept(DISPATCH)?.into(),
        cpu_millis: small(CPU)?,
        memory_bytes: number(MEMORY)?,
    })
}

/// Whole seconds, rounded up: a deadline of nothing would be none.
pub(super) fn seconds(time: std::time::Duration) -> i64 {
    let whole = time.as_secs() + u64::from(time.subsec_nanos() > 0);
    i64::try_from(whole.max(1)).unwrap_or(i64::MAX)
}

fn texts<const N: usize>(pairs: [(&str, String); N]) -> Texts {
    pairs.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

/// Letters, digits, dashes, dots and underscores, with a letter or a digit at both ends.
fn fits_label(value: &str) -> bool {
    let is_inner = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
    let is_end = |c: char| c.is_ascii_alphanumeric();
    value.len() <= LONGEST_LABEL
        && value.starts_with(is_end)
        && value.ends_with(is_end)
        && value.chars().all(is_inner)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use secrecy::SecretString;

    use super::*;
    use crate::contract::{Hardware, Resources};

    fn order(of: Labels) -> Order {
        let (cpu_millis, memory_bytes) = (1000, 1 << 30);
        Order {
            name: "jitney-x-1".to_owned(),
            request_id: Uuid::from_u128(1),
            labels: of,
            resources: Resources { cpu_millis, memory_bytes, disk_bytes: None, local_ssds: 0 },
            place: String::new(),
            machine_type: String::new(),
            spot: false,
            vm: None,
            hardware: Hardware::default(),
            deadline: Duration::from_secs(60),
            endpoint: String::new(),
            token: SecretString::from("bkjat_never_here"),
            agent_name: String::new(),
            agent_tags: Vec::new(),
            image: None,
            no_rights: false,
        }
    }

    fn check(change: impl FnOnce(&mut Labels)) {
        let mut of = Labels {
            mark: "jitney".into(),
            instance: "host-1".into(),
            job: Uuid::from_u128(7),
            attempt: 1,
            queue: "jit".into(),
            dispatch_id: "0199a3c05c397d138f0e0d6a8e2f7a11".into(),
            cpu_millis: 500,
            memory_bytes: 1 << 40,
        };
        change(&mut of);
        let order = order(of.clone());
        let (labels, annotations) = (labels(&order), annotations(&order, "s"));
        assert!(labels.values().all(|value| fits_label(value)), "{labels:?}");
        assert!(!format!("{labels:?}{annotations:?}").contains("bkjat"));
        assert_eq!(read(&labels, &annotations), Ok(of));
    }

    #[test]
    fn what_is_written_is_read_back_exactly() {
        check(|_| {});
        check(|of| of.queue = "a queue with \"quotes\", ümläuts = and, commas".into());
        check(|of| of.instance = "host.example/1".into());
        check(|of| of.queue = "".into());
        for dispatch in ["", "-x", "ü", "a b", &"d".repeat(64), "a/b", "x."] {
            check(|of| of.dispatch_id = dispatch.into());
        }
        check(|of| (of.attempt, of.cpu_millis, of.memory_bytes) = (u32::MAX, 0, u64::MAX));
    }

    #[test]
    fn what_somebody_else_changed_is_named() {
        let good =
            texts([(MARK, "m".to_owned()), (JOB, "x".to_owned()), (ATTEMPT, "1".to_owned())]);
        assert_eq!(read(&good, &Texts::new()), Err("it bears no jitney.dev/instance".to_owned()));
        let all = texts([(INSTANCE, String::new()), (QUEUE, String::new())]);
        assert_eq!(read(&good, &all), Err("its jitney.dev/job cannot be read: `x`".to_owned()));
    }
}
