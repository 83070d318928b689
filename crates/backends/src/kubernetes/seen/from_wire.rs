//! Our parts of Kubernetes' objects, out of its own encoding. The numbers of the fields are those
//! of Kubernetes' `generated.proto` files, and never change.

use std::collections::BTreeMap;

use serde::de::IgnoredAny;

use super::{
    Condition, Container, Event, Involved, Job, JobSpec, JobStatus, Pod, RawMeta, RawPod,
    RawPodSpec, RawPodStatus, Running, State, Terminated, Waiting,
};
use crate::kubernetes::wire::{Broken, Message, Value, fields};

/// A message whose fields may all be absent.
trait Fields: Default {
    fn take(&mut self, number: u64, value: Value<'_>) -> Result<(), Broken>;
}

impl<T: Fields> Message for T {
    fn read(bytes: &[u8]) -> Result<Self, Broken> {
        let mut message = Self::default();
        fields(bytes, |number, value| message.take(number, value))?;
        Ok(message)
    }
}

impl Fields for RawMeta {
    fn take(&mut self, number: u64, value: Value<'_>) -> Result<(), Broken> {
        match number {
            1 => self.name = value.text()?,
            5 => self.uid = value.text()?,
            6 => self.resource_version = value.text()?,
            8 => self.creation_timestamp = value.time()?,
            9 => self.deletion_timestamp = value.time()?,
            11 => entry(&mut self.labels, value)?,
            12 => entry(&mut self.annotations, value)?,
            13 => self.owner_references.push(IgnoredAny),
            14 => self.finalizers.push(value.text()?),
            _ => {}
        }
        Ok(())
    }
}

/// One of a map's.
fn entry(map: &mut BTreeMap<String, String>, of: Value<'_>) -> Result<(), Broken> {
    let (mut key, mut text) = ("", "");
    fields(of.bytes()?, |number, value| {
        match number {
            1 => key = value.str()?,
            2 => text = value.str()?,
            _ => {}
        }
        Ok(())
    })?;
    if super::is_read(key) {
        map.insert(key.to_owned(), text.to_owned());
    }
    Ok(())
}

impl Fields for Condition {
    fn take(&mut self, number: u64, value: Value<'_>) -> Result<(), Broken> {
        match number {
            1 => self.kind = value.text()?,
            2 => self.status = value.text()?,
            4 => self.last_transition_time = value.time()?,
            5 => self.reason = value.some_text()?,
            6 => self.message = value.some_text()?,
            _ => {}
        }
        Ok(())
    }
}

/// Metadata, spec and status, which every object of a controller has.
fn parts<S: Fields, T: Fields>(bytes: &[u8]) -> Result<(RawMeta, S, T), Broken> {
    let mut parts = (RawMeta::default(), S::default(), T::default());
    fields(bytes, |number, value| {
        match number {
            1 => parts.0 = value.message()?,
            2 => parts.1 = value.message()?,
            3 => parts.2 = value.message()?,
            _ => {}
        }
        Ok(())
    })?;
    Ok(parts)
}

impl Message for Job {
    fn read(bytes: &[u8]) -> Result<Self, Broken> {
        let (metadata, spec, mut status): (_, _, JobStatus) = parts(bytes)?;
        status.conditions.shrink_to_fit();
        Ok(Self { metadata: metadata.into(), spec, status })
    }
}

impl Fields for JobSpec {
    fn take(&mut self, number: u64, value: Value<'_>) -> Result<(), Broken> {
        match number {
            3 => self.active_deadline_seconds = Some(value.signed()?),
            10 => self.suspend = value.flag()?,
            _ => {}
        }
        Ok(())
    }
}

impl Fields for JobStatus {
    fn take(&mut self, number: u64, value: Value<'_>) -> Result<(), Broken> {
        match number {
            1 => self.conditions.push(value.message()?),
            2 => self.start_time = value.time()?,
            _ => {}
        }
        Ok(())
    }
}

impl Message for Pod {
    fn read(bytes: &[u8]) -> Result<Self, Broken> {
        let (metadata, spec, status) = parts(bytes)?;
        Ok(RawPod { metadata: metadata.into(), spec, status }.into())
    }
}

impl Fields for RawPodSpec {
    fn take(&mut self, number: u64, value: Value<'_>) -> Result<(), Broken> {
        if number == 10 {
            self.node_name = value.some_text()?;
        }
        Ok(())
    }
}

impl Fields for RawPodStatus {
    fn take(&mut self, number: u64, value: Value<'_>) -> Result<(), Broken> {
        match number {
            1 => self.phase = value.text()?,
            2 => self.conditions.push(value.message()?),
            3 => self.message = value.some_text()?,
            4 => self.reason = value.some_text()?,
            7 => self.start_time = value.time()?,
            8 => self.container_statuses.push(value.message()?),
            10 => self.init_container_statuses.push(value.message()?),
            _ => {}
        }
        Ok(())
    }
}

impl Fields for Container {
    fn take(&mut self, number: u64, value: Value<'_>) -> Result<(), Broken> {
        match number {
            1 => self.name = value.text()?,
            2 => self.state = value.message()?,
            6 => self.image = value.text()?,
            9 => self.started = Some(value.flag()?),
            _ => {}
        }
        Ok(())
    }
}

impl Fields for State {
    fn take(&mut self, number: u64, value: Value<'_>) -> Result<(), Broken> {
        match number {
            1 => self.waiting = Some(Box::new(value.message()?)),
            2 => self.running = Some(value.message()?),
            3 => self.terminated = Some(Box::new(value.message()?)),
            _ => {}
        }
        Ok(())
    }
}

impl Fields for Waiting {
    fn take(&mut self, number: u64, value: Value<'_>) -> Result<(), Broken> {
        match number {
            1 => self.reason = value.text()?,
            2 => self.message = value.text()?,
            _ => {}
        }
        Ok(())
    }
}

impl Fields for Running {
    fn take(&mut self, number: u64, value: Value<'_>) -> Result<(), Broken> {
        if number == 1 {
            self.started_at = value.time()?;
        }
        Ok(())
    }
}

impl Fields for Terminated {
    fn take(&mut self, number: u64, value: Value<'_>) -> Result<(), Broken> {
        match number {
            1 => {
                self.exit_code = i32::try_from(value.signed()?).map_err(|_| Broken("exit code"))?;
            }
            3 => self.reason = value.text()?,
            4 => self.message = value.text()?,
            6 => self.finished_at = value.time()?,
            _ => {}
        }
        Ok(())
    }
}

impl Message for Event {
    fn read(bytes: &[u8]) -> Result<Self, Broken> {
        let (mut metadata, mut involved_object) = (RawMeta::default(), Involved::default());
        let (mut reason, mut message) = (String::new(), String::new());
        fields(bytes, |number, value| {
            match number {
                1 => metadata = value.message()?,
                2 => involved_object = value.message()?,
                3 => reason = value.text()?,
                4 => message = value.text()?,
                _ => {}
            }
            Ok(())
        })?;
        Ok(Self { metadata: metadata.into(), involved_object, reason, message })
    }
}

impl Fields for Involved {
    fn take(&mut self, number: u64, value: Value<'_>) -> Result<(), Broken> {
        match number {
            1 => self.kind = value.text()?,
            3 => self.name = value.text()?,
            4 => self.uid = value.str()?.parse().unwrap_or_default(),
            _ => {}
        }
        Ok(())
    }
}
