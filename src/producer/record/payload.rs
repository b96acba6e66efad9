//! What a key, a value or a header may be given as: borrowed or owned bytes, or nothing.

use bytes::Bytes;
use std::borrow::Cow;
use std::fmt;

/// Arrays up to this size stay inside the record: numbers and UUIDs allocate nothing.
const SHORT_MAX: usize = 16;

/// Bytes that a record borrows or owns, or null. Made by [`IntoPayload`].
#[derive(Clone)]
pub struct Payload<'a>(Repr<'a>);

#[derive(Clone)]
enum Repr<'a> {
    Null,
    Borrowed(&'a [u8]),
    Owned(Vec<u8>),
    Short {
        size: u8,
        bytes: [u8; SHORT_MAX - 1],
    },
    // The usual sizes in whole words: a record is moved by each of its builder's methods, and bytes
    // that are not aligned are moved one by one.
    Eight([u8; 8]),
    /// All that the variant of a vector leaves room for beside the tag.
    Sixteen([u8; SHORT_MAX]),
}

impl<'a> Payload<'a> {
    pub(super) const NULL: Payload<'static> = Payload(Repr::Null);

    /// The bytes; None for null.
    #[inline]
    pub fn as_bytes(&self) -> Option<&[u8]> {
        match &self.0 {
            Repr::Null => None,
            Repr::Borrowed(bytes) => Some(bytes),
            Repr::Owned(bytes) => Some(bytes),
            Repr::Short { size, bytes } => bytes.get(..usize::from(*size)),
            Repr::Eight(bytes) => Some(bytes),
            Repr::Sixteen(bytes) => Some(bytes),
        }
    }

    /// Drops it. The compiler's own way hands its address out, which keeps the record around it
    /// in memory where it could be in registers.
    #[inline]
    pub(super) fn discard(self) {
        match self.0 {
            Repr::Owned(bytes) => drop_bytes(bytes),
            Repr::Null | Repr::Borrowed(_) => {}
            Repr::Short { .. } | Repr::Eight(_) | Repr::Sixteen(_) => {}
        }
    }

    /// Whether memory has to be given back.
    #[inline]
    pub(super) fn is_allocated(&self) -> bool {
        matches!(self.0, Repr::Owned(_))
    }

    /// The bytes for as long as they are borrowed, where they are; `Ok(None)` for null.
    ///
    /// # Errors
    /// The payload, where it owns its bytes.
    pub(super) fn into_borrowed(self) -> Result<Option<&'a [u8]>, Payload<'a>> {
        match self.0 {
            Repr::Null => Ok(None),
            Repr::Borrowed(bytes) => Ok(Some(bytes)),
            owned => Err(Payload(owned)),
        }
    }

    /// The same, owning its bytes.
    pub fn into_owned(self) -> Payload<'static> {
        Payload(match self.0 {
            Repr::Null => Repr::Null,
            Repr::Borrowed(bytes) => Repr::Owned(bytes.to_vec()),
            Repr::Owned(bytes) => Repr::Owned(bytes),
            Repr::Short { size, bytes } => Repr::Short { size, bytes },
            Repr::Eight(bytes) => Repr::Eight(bytes),
            Repr::Sixteen(bytes) => Repr::Sixteen(bytes),
        })
    }

    pub(super) fn into_vec(self) -> Option<Vec<u8>> {
        match self.0 {
            Repr::Owned(bytes) => Some(bytes),
            other => Payload(other).as_bytes().map(<[u8]>::to_vec),
        }
    }
}

#[inline(never)]
fn drop_bytes(bytes: Vec<u8>) {
    drop(bytes);
}

/// Shows the size: payloads may be large, or secret.
impl fmt::Debug for Payload<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.as_bytes() {
            None => f.write_str("null"),
            Some(bytes) => write!(f, "{} bytes", bytes.len()),
        }
    }
}

/// What a key, a value or a header may be given as.
///
/// References borrow (`&str`, `&[u8]`, `&String`, `&Vec<u8>`, `&Bytes`, whatever is
/// `AsRef<[u8]>`); `String`, `Vec<u8>`, arrays, boxes and [`Bytes`] move in; an `Option` that is
/// `None` is null.
///
/// # Examples
/// ```
/// use topiclite::ProducerRecord;
/// let (id, customer) = (7_u64, None::<&str>);
/// let record = ProducerRecord::new("orders").key(id.to_be_bytes()).value(format!("order {id}"));
/// let record = record.header("customer", customer);
/// assert_eq!(record.key_bytes(), Some(&[0, 0, 0, 0, 0, 0, 0, 7][..]));
/// ```
pub trait IntoPayload<'a> {
    /// The bytes.
    fn into_payload(self) -> Payload<'a>;
}

impl<'a, T: AsRef<[u8]> + ?Sized> IntoPayload<'a> for &'a T {
    #[inline]
    fn into_payload(self) -> Payload<'a> {
        Payload(Repr::Borrowed(self.as_ref()))
    }
}

impl<'a> IntoPayload<'a> for Payload<'a> {
    #[inline]
    fn into_payload(self) -> Payload<'a> {
        self
    }
}

impl<'a, T: IntoPayload<'a>> IntoPayload<'a> for Option<T> {
    #[inline]
    fn into_payload(self) -> Payload<'a> {
        self.map_or(Payload(Repr::Null), T::into_payload)
    }
}

impl<'a, const N: usize> IntoPayload<'a> for [u8; N] {
    #[inline]
    fn into_payload(self) -> Payload<'a> {
        if let Ok(bytes) = <[u8; 8]>::try_from(self.as_slice()) {
            return Payload(Repr::Eight(bytes));
        }
        if let Ok(bytes) = <[u8; SHORT_MAX]>::try_from(self.as_slice()) {
            return Payload(Repr::Sixteen(bytes));
        }
        let mut bytes = [0; SHORT_MAX - 1];
        match (bytes.get_mut(..N), u8::try_from(N)) {
            (Some(place), Ok(size)) => {
                place.copy_from_slice(&self);
                Payload(Repr::Short { size, bytes })
            }
            _ => Payload(Repr::Owned(self.to_vec())),
        }
    }
}

impl<'a> IntoPayload<'a> for Cow<'a, [u8]> {
    fn into_payload(self) -> Payload<'a> {
        match self {
            Cow::Borrowed(bytes) => bytes.into_payload(),
            Cow::Owned(bytes) => bytes.into_payload(),
        }
    }
}

impl<'a> IntoPayload<'a> for Cow<'a, str> {
    fn into_payload(self) -> Payload<'a> {
        match self {
            Cow::Borrowed(text) => text.into_payload(),
            Cow::Owned(text) => text.into_payload(),
        }
    }
}

macro_rules! owned {
    ($($owner:ty)*) => {
        $(impl<'a> IntoPayload<'a> for $owner {
            #[inline]
            fn into_payload(self) -> Payload<'a> {
                Payload(Repr::Owned(self.into()))
            }
        })*
    };
}

owned! { Vec<u8> String Box<[u8]> Bytes }

impl<'a> IntoPayload<'a> for Box<str> {
    fn into_payload(self) -> Payload<'a> {
        self.into_string().into_payload()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes<'a>(from: impl IntoPayload<'a>) -> Option<Vec<u8>> {
        let payload = from.into_payload();
        let seen = payload.as_bytes().map(<[u8]>::to_vec);
        assert_eq!(payload.clone().into_owned().into_vec(), seen);
        seen
    }

    #[test]
    fn everything_that_is_bytes_is_a_payload() {
        let some = Some(b"ab".to_vec());
        let (text, vector, shared) = ("ab".to_owned(), b"ab".to_vec(), Bytes::from_static(b"ab"));
        assert_eq!(
            (bytes("ab"), bytes(b"ab"), bytes(&b"ab"[..])),
            (some.clone(), some.clone(), some.clone())
        );
        assert_eq!(
            (bytes(&text), bytes(&vector), bytes(&shared)),
            (some.clone(), some.clone(), some.clone())
        );
        assert_eq!((bytes(text.clone()), bytes(vector.clone())), (some.clone(), some.clone()));
        assert_eq!((bytes(shared), bytes(*b"ab")), (some.clone(), some.clone()));
        assert_eq!(bytes(vector.into_boxed_slice()), some);
        assert_eq!(bytes(text.clone().into_boxed_str()), some);
        assert_eq!(bytes(Cow::<str>::Owned(text)), some);
        assert_eq!(
            (bytes(Cow::Borrowed("ab")), bytes(Cow::Borrowed(&b"ab"[..]))),
            (some.clone(), some)
        );
        assert_eq!((bytes(None::<&str>), bytes(Some(""))), (None, Some(Vec::new())));
        assert_eq!(bytes([7; 0]), Some(Vec::new()));
        assert_eq!(bytes([7; 8]), Some(vec![7; 8]));
        assert_eq!(bytes([7; 15]), Some(vec![7; 15]));
        assert_eq!(bytes([7; 16]), Some(vec![7; 16]));
        assert_eq!(bytes([7; 17]), Some(vec![7; 17]));
    }

    #[test]
    fn only_vectors_allocate() {
        let owned = |payload: Payload<'_>| payload.is_allocated();
        assert!(!owned("ab".into_payload()) && !owned([7; 8].into_payload()));
        assert!(!owned([7; 16].into_payload()) && !owned(Payload::NULL));
        assert!(owned(vec![7].into_payload()) && owned([7; 17].into_payload()));
    }

    #[test]
    fn a_payload_shows_its_size_only() {
        assert_eq!(format!("{:?}", "hunter2".into_payload()), "7 bytes");
        assert_eq!(format!("{:?}", Payload::NULL), "null");
    }
}
