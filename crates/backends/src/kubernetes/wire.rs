//! Kubernetes' own encoding, as far as we read it: protocol buffers. The API server keeps objects
//! ready in it for its own parts, while JSON it would make for us alone; and what we do not want of
//! an object is passed over here without being looked at. Nothing is written in it.

use std::str::from_utf8;

use jiff::Timestamp;
use kube::core::Status;
use kube::core::response::StatusDetails;

/// How to ask for it, where JSON would be as good.
pub(super) const ACCEPTED: &str = "application/vnd.kubernetes.protobuf, application/json";
/// And where it would not be.
pub(super) const ONLY: &str = "application/vnd.kubernetes.protobuf";
/// What every object in it begins with.
const MAGIC: &[u8] = b"k8s\0";
/// The store holds no object of more than 1.5 MiB or so.
const LARGEST_FRAME: usize = 16 << 20;
/// Room for frames that is not given back.
const KEPT: usize = 64 << 10;

/// Why something cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it is no {0}")]
pub struct Broken(pub(crate) &'static str);

/// What can be read of the message that it is.
pub trait Message: Sized {
    /// # Errors
    /// Where the bytes are no such message.
    fn read(bytes: &[u8]) -> Result<Self, Broken>;
}

/// The value of one field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Value<'a> {
    Number(u64),
    /// A text, a message, or bytes.
    Bytes(&'a [u8]),
    /// Of a fixed size; nothing of ours is.
    Fixed,
}

/// Hands out all fields of a message, in their order.
pub(super) fn fields<'a>(
    mut rest: &'a [u8],
    mut take: impl FnMut(u64, Value<'a>) -> Result<(), Broken>,
) -> Result<(), Broken> {
    while !rest.is_empty() {
        let key = number(&mut rest)?;
        let value = match key & 7 {
            0 => Value::Number(number(&mut rest)?),
            1 => skip(&mut rest, 8)?,
            2 => {
                let length = usize::try_from(number(&mut rest)?).map_err(|_| CUT)?;
                Value::Bytes(cut(&mut rest, length)?)
            }
            5 => skip(&mut rest, 4)?,
            _ => return Err(Broken("known kind of field")),
        };
        take(key >> 3, value)?;
    }
    Ok(())
}

const CUT: Broken = Broken("whole message");

fn cut<'a>(rest: &mut &'a [u8], length: usize) -> Result<&'a [u8], Broken> {
    let (part, after) = rest.split_at_checked(length).ok_or(CUT)?;
    *rest = after;
    Ok(part)
}

fn skip<'a>(rest: &mut &'a [u8], length: usize) -> Result<Value<'a>, Broken> {
    cut(rest, length).map(|_| Value::Fixed)
}

/// Seven bits of each byte, the lowest first, until one has its eighth bit clear.
fn number(rest: &mut &[u8]) -> Result<u64, Broken> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let byte = *cut(rest, 1)?.first().ok_or(CUT)?;
        number |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok(number);
        }
    }
    Err(Broken("number of 64 bits"))
}

impl<'a> Value<'a> {
    pub(super) fn bytes(self) -> Result<&'a [u8], Broken> {
        match self {
            Self::Bytes(bytes) => Ok(bytes),
            Self::Number(_) | Self::Fixed => Err(Broken("field of bytes")),
        }
    }

    pub(super) fn number(self) -> Result<u64, Broken> {
        match self {
            Self::Number(number) => Ok(number),
            Self::Bytes(_) | Self::Fixed => Err(Broken("number")),
        }
    }

    /// Negative ones are written as the 64 bits that they are.
    pub(super) fn signed(self) -> Result<i64, Broken> {
        Ok(i64::from_le_bytes(self.number()?.to_le_bytes()))
    }

    pub(super) fn flag(self) -> Result<bool, Broken> {
        Ok(self.number()? != 0)
    }

    pub(super) fn str(self) -> Result<&'a str, Broken> {
        from_utf8(self.bytes()?).map_err(|_| Broken("text"))
    }

    pub(super) fn text<T: for<'b> From<&'b str>>(self) -> Result<T, Broken> {
        self.str().map(T::from)
    }

    /// A text that is not set is there all the same, and empty.
    pub(super) fn some_text<T: for<'b> From<&'b str>>(self) -> Result<Option<T>, Broken> {
        Ok(Some(self.str()?).filter(|text| !text.is_empty()).map(T::from))
    }

    pub(super) fn message<T: Message>(self) -> Result<T, Broken> {
        T::read(self.bytes()?)
    }

    /// A time that is not set is the zero one.
    pub(super) fn time(self) -> Result<Option<Timestamp>, Broken> {
        let mut seconds = 0;
        fields(self.bytes()?, |number, value| {
            if number == 1 {
                seconds = value.signed()?;
            }
            Ok(())
        })?;
        if seconds == 0 {
            return Ok(None);
        }
        Timestamp::from_second(seconds).map(Some).map_err(|_| Broken("time"))
    }
}

/// Whether it is an object in this encoding.
pub(super) fn is_object(bytes: &[u8]) -> bool {
    bytes.starts_with(MAGIC)
}

/// One object in its envelope.
///
/// # Errors
/// Where the bytes are none.
pub fn object<T: Message>(bytes: &[u8]) -> Result<T, Broken> {
    T::read(opened(bytes)?)
}

/// What is in an object's envelope: its kind stands outside.
fn opened(bytes: &[u8]) -> Result<&[u8], Broken> {
    let envelope = bytes.strip_prefix(MAGIC).ok_or(Broken("object of Kubernetes"))?;
    let mut inner: &[u8] = &[];
    fields(envelope, |number, value| {
        if number == 2 {
            inner = value.bytes()?;
        }
        Ok(())
    })?;
    Ok(inner)
}

/// A page of a listing.
#[derive(Debug)]
pub(super) struct Page<T> {
    pub(super) items: Vec<T>,
    pub(super) version: String,
    /// Where the next one begins.
    pub(super) more: Option<String>,
}

impl<T: Message> Page<T> {
    pub(super) fn read(bytes: &[u8]) -> Result<Self, Broken> {
        let mut page = Self { items: Vec::new(), version: String::new(), more: None };
        fields(opened(bytes)?, |number, value| {
            match number {
                1 => {
                    return fields(value.bytes()?, |number, value| {
                        match number {
                            2 => page.version = value.text()?,
                            3 => page.more = value.some_text()?,
                            _ => {}
                        }
                        Ok(())
                    });
                }
                2 => page.items.push(value.message()?),
                _ => {}
            }
            Ok(())
        })?;
        Ok(page)
    }
}

/// What a watch tells.
#[derive(Debug, PartialEq)]
pub(super) enum Change<T> {
    Seen(T),
    Gone(T),
    /// Nothing has changed up to the version that this one bears.
    Told(T),
    Failed(Box<Status>),
}

impl<T: Message> Change<T> {
    /// One frame of a watch.
    pub(super) fn read(frame: &[u8]) -> Result<Self, Broken> {
        let (mut kind, mut object): (&str, &[u8]) = ("", &[]);
        fields(frame, |number, value| {
            match number {
                1 => kind = value.str()?,
                2 => fields(value.bytes()?, |number, value| {
                    if number == 1 {
                        object = value.bytes()?;
                    }
                    Ok(())
                })?,
                _ => {}
            }
            Ok(())
        })?;
        let object = opened(object)?;
        match kind {
            "ADDED" | "MODIFIED" => T::read(object).map(Self::Seen),
            "DELETED" => T::read(object).map(Self::Gone),
            "BOOKMARK" => T::read(object).map(Self::Told),
            "ERROR" => status_of(object).map(|status| Self::Failed(status.boxed())),
            _ => Err(Broken("known kind of change")),
        }
    }
}

/// What the API server says of a failure.
pub(super) fn status(bytes: &[u8]) -> Result<Status, Broken> {
    status_of(opened(bytes)?)
}

fn status_of(message: &[u8]) -> Result<Status, Broken> {
    let mut status = Status::failure("", "");
    fields(message, |number, value| {
        match number {
            3 => status.message = value.text()?,
            4 => status.reason = value.text()?,
            5 => {
                let retry_after_seconds = retry_after(value.bytes()?)?;
                status.details = Some(StatusDetails { retry_after_seconds, ..no_details() });
            }
            6 => status.code = u16::try_from(value.number()?).map_err(|_| Broken("status"))?,
            _ => {}
        }
        Ok(())
    })?;
    Ok(status)
}

fn retry_after(details: &[u8]) -> Result<u32, Broken> {
    let mut seconds = 0;
    fields(details, |number, value| {
        if number == 5 {
            seconds = u32::try_from(value.number()?).map_err(|_| Broken("number of seconds"))?;
        }
        Ok(())
    })?;
    Ok(seconds)
}

fn no_details() -> StatusDetails {
    StatusDetails {
        name: String::new(),
        group: String::new(),
        kind: String::new(),
        uid: String::new(),
        causes: Vec::new(),
        retry_after_seconds: 0,
    }
}

/// The frames of a watch, out of the pieces in which they come: each has its length before it, in
/// four bytes, the highest first.
#[derive(Debug, Default)]
pub(super) struct Frames {
    bytes: Vec<u8>,
    /// So many of them have been handed out.
    read: usize,
}

impl Frames {
    pub(super) fn add(&mut self, piece: &[u8]) {
        self.bytes.drain(..self.read);
        self.read = 0;
        // What one large object took is not kept for the small ones that follow.
        self.bytes.shrink_to(KEPT);
        self.bytes.extend_from_slice(piece);
    }

    /// The next that is whole.
    pub(super) fn next(&mut self) -> Result<Option<&[u8]>, Broken> {
        let rest = self.bytes.get(self.read..).unwrap_or_default();
        let Some((length, rest)) = rest.split_first_chunk::<4>() else { return Ok(None) };
        let length = usize::try_from(u32::from_be_bytes(*length)).unwrap_or(usize::MAX);
        if length > LARGEST_FRAME {
            return Err(Broken("frame of a size that can be"));
        }
        let Some(frame) = rest.get(..length) else { return Ok(None) };
        self.read += 4 + length;
        Ok(Some(frame))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::kubernetes::seen::{Event, Job};

    /// A field that holds bytes.
    fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
        let length = u8::try_from(bytes.len()).expect("short");
        // Two bytes for each length, as encoders may.
        [&[number << 3 | 2, length | 0x80, length >> 7], bytes].concat()
    }

    fn enveloped(object: &[u8]) -> Vec<u8> {
        [MAGIC, &field(1, b"whatever it is"), &field(2, object)].concat()
    }

    fn framed(kind: &str, object: &[u8]) -> Vec<u8> {
        let object = field(1, &enveloped(object));
        let frame = [field(1, kind.as_bytes()), field(2, &object)].concat();
        let length = u32::try_from(frame.len()).expect("short").to_be_bytes();
        [&length[..], &frame].concat()
    }

    fn an_event(name: &str) -> Vec<u8> {
        let metadata = [field(1, name.as_bytes()), field(6, b"7")].concat();
        // A field that is not known, of each kind that there is.
        let unknown =
            [&[0x78, 0xff, 0x01][..], &[0x79, 1, 2, 3, 4, 5, 6, 7, 8], &[0x7d, 1, 2, 3, 4]];
        [&unknown.concat()[..], &field(1, &metadata), &field(15, b"x"), &field(4, "ü".as_bytes())]
            .concat()
    }

    #[test]
    fn a_watch_comes_in_pieces_of_any_size() {
        let stream = [
            framed("ADDED", &an_event("a")),
            framed("BOOKMARK", &an_event("b")),
            framed("DELETED", &an_event("c")),
        ]
        .concat();
        for size in 1..stream.len() {
            let (mut frames, mut told) = (Frames::default(), String::new());
            for piece in stream.chunks(size) {
                frames.add(piece);
                while let Some(frame) = frames.next().expect("a frame") {
                    match Change::<Event>::read(frame).expect("a change") {
                        Change::Seen(event) => told += &format!("seen {} ", event.metadata.name),
                        Change::Gone(event) => told += &format!("gone {} ", event.message),
                        Change::Told(event) => told += &format!("told {} ", event.metadata.version),
                        Change::Failed(status) => panic!("{status}"),
                    }
                }
            }
            assert_eq!(told, "seen a told 7 gone ü ", "pieces of {size}");
        }
        let mut frames = Frames::default();
        frames.add(&[0xff; 8]);
        assert_eq!(frames.next(), Err(Broken("frame of a size that can be")));
    }

    #[test]
    fn a_failure_says_what_it_is() {
        let details = [field(1, b"jobs"), vec![5 << 3, 9]].concat();
        let failure =
            [field(3, b"too old"), field(4, b"Expired"), field(5, &details), vec![6 << 3, 0x9a, 3]];
        let frame = framed("ERROR", &failure.concat());
        let change = Change::<Event>::read(&frame[4..]).expect("a change");
        let Change::Failed(status) = change else { panic!("{change:?}") };
        assert_eq!((status.code, &*status.message, &*status.reason), (410, "too old", "Expired"));
        assert_eq!(status.details.map(|details| details.retry_after_seconds), Some(9));
    }

    #[test]
    fn pages_say_where_the_next_one_begins() {
        let list = |more: &[u8]| {
            let metadata = [field(2, b"12"), field(3, more)].concat();
            enveloped(&[field(1, &metadata), field(2, &an_event("a"))].concat())
        };
        let page = Page::<Event>::read(&list(b"more")).expect("a page");
        assert_eq!((&*page.version, page.more.as_deref()), ("12", Some("more")));
        assert_eq!(page.items.len(), 1);
        assert_eq!(Page::<Event>::read(&list(b"")).expect("a page").more, None);
    }

    #[test]
    fn what_is_cut_or_no_object_is_said() {
        let object = enveloped(&an_event("a"));
        assert!(self::object::<Event>(&object).is_ok());
        let json = json!({ "metadata": { "name": "a" } }).to_string();
        let broken = self::object::<Event>(json.as_bytes());
        assert_eq!(broken, Err(Broken("object of Kubernetes")));
        for length in MAGIC.len() + 1..object.len() {
            // Where a field ends nothing is missing that anybody could know of.
            if let Ok(event) = self::object::<Event>(&object[..length]) {
                assert_eq!(&*event.metadata.name, "", "{length} of {}", object.len());
            }
        }
        let check = |bytes: &[u8], expected| {
            assert_eq!(Job::read(bytes), Err(Broken(expected)), "{bytes:?}");
        };
        check(&[0x0a, 0x05, 1], "whole message");
        check(&[0x0a], "whole message");
        check(&[0x08, 0x01], "field of bytes");
        check(&[0x0b], "known kind of field");
        check(&[0xff; 11], "number of 64 bits");
        check(&[0x0a, 0x03, 0x0a, 0x01, 0xff], "text");
        check(&[0x12, 0x03, 0x1a, 0x01, 0x00], "number");
    }
}
