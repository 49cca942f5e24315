//! Command sets (PS3.7 section 6.3 and annex E): implicit VR little endian, group 0000.

use super::fault::Fault;
use super::names::{AeTitle, Uid};

/// A DIMSE operation or notification.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Operation {
    /// Stores a composite object.
    CStore,
    /// Sends what is named back on the same association.
    CGet,
    /// Finds by properties.
    CFind,
    /// Sends what is named to an application entity.
    CMove,
    /// Verifies the connection.
    CEcho,
    /// Tells of an event.
    NEventReport,
    /// Reads attributes.
    NGet,
    /// Changes attributes.
    NSet,
    /// Calls an action.
    NAction,
    /// Creates an object.
    NCreate,
    /// Deletes an object.
    NDelete,
}

impl Operation {
    /// Every operation.
    pub const ALL: [Self; 11] = [
        Self::CStore,
        Self::CGet,
        Self::CFind,
        Self::CMove,
        Self::CEcho,
        Self::NEventReport,
        Self::NGet,
        Self::NSet,
        Self::NAction,
        Self::NCreate,
        Self::NDelete,
    ];

    /// The name in the standard, in records and as `context.operation` of policies.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::CStore => "C-STORE",
            Self::CGet => "C-GET",
            Self::CFind => "C-FIND",
            Self::CMove => "C-MOVE",
            Self::CEcho => "C-ECHO",
            Self::NEventReport => "N-EVENT-REPORT",
            Self::NGet => "N-GET",
            Self::NSet => "N-SET",
            Self::NAction => "N-ACTION",
            Self::NCreate => "N-CREATE",
            Self::NDelete => "N-DELETE",
        }
    }

    /// The command field of its request (PS3.7 section E.1-1).
    pub(crate) const fn code(self) -> u16 {
        match self {
            Self::CStore => 0x0001,
            Self::CGet => 0x0010,
            Self::CFind => 0x0020,
            Self::CMove => 0x0021,
            Self::CEcho => 0x0030,
            Self::NEventReport => 0x0100,
            Self::NGet => 0x0110,
            Self::NSet => 0x0120,
            Self::NAction => 0x0130,
            Self::NCreate => 0x0140,
            Self::NDelete => 0x0150,
        }
    }

    fn of(code: u16) -> Option<Self> {
        Self::ALL.into_iter().find(|operation| operation.code() == code)
    }

    /// Whether answers may be pending before the last one.
    pub(crate) const fn has_pending(self) -> bool {
        matches!(self, Self::CFind | Self::CGet | Self::CMove)
    }

    /// Whether its class is the presentation context's own. Operations on normalized objects may name a class of a meta class.
    pub(crate) const fn is_composite(self) -> bool {
        matches!(self, Self::CStore | Self::CGet | Self::CFind | Self::CMove | Self::CEcho)
    }
}

/// What kind of message a command set heads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Request(Operation),
    Response(Operation),
    Cancel,
}

/// A command set, as far as it is read. Its bytes are forwarded as they came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Command {
    pub(crate) kind: Kind,
    /// Its own id, or that of the message it answers or cancels.
    pub(crate) message: u16,
    pub(crate) has_data: bool,
    pub(crate) status: Option<u16>,
    pub(crate) class: Option<Uid>,
    pub(crate) instance: Option<Uid>,
    pub(crate) destination: Option<AeTitle>,
}

const CANCEL: u16 = 0x0fff;
const RESPONSE: u16 = 0x8000;
const NO_DATA: u16 = 0x0101;

#[derive(Default)]
struct Fields {
    code: Option<u16>,
    id: Option<u16>,
    answers: Option<u16>,
    data: Option<u16>,
    status: Option<u16>,
    affected_class: Option<Uid>,
    requested_class: Option<Uid>,
    affected_instance: Option<Uid>,
    requested_instance: Option<Uid>,
    destination: Option<AeTitle>,
}

impl Command {
    /// Reads a whole command set. Elements ascend, so that each comes once, and their lengths add up.
    pub(crate) fn read(bytes: &[u8]) -> Result<Self, Fault> {
        let fields = Fields::read(bytes).ok_or(Fault::MalformedCommand)?;
        fields.command().ok_or(Fault::MalformedCommand)
    }
}

impl Fields {
    fn read(mut bytes: &[u8]) -> Option<Self> {
        let mut fields = Self::default();
        let mut last = None;
        while !bytes.is_empty() {
            let (head, rest) = bytes.split_first_chunk::<8>()?;
            let [g0, g1, e0, e1, length @ ..] = *head;
            let length = usize::try_from(u32::from_le_bytes(length)).ok()?;
            let (value, rest) = rest.split_at_checked(length)?;
            let (group, element) = (u16::from_le_bytes([g0, g1]), u16::from_le_bytes([e0, e1]));
            // The group's length is the first element and says how much is behind it.
            let first = last.is_none();
            if group != 0 || length % 2 != 0 || last.is_some_and(|last| element <= last) || first != (element == 0) {
                return None;
            }
            last = Some(element);
            bytes = rest;
            let number = || value.try_into().ok().map(u16::from_le_bytes);
            match element {
                0 if usize::try_from(u32::from_le_bytes(value.try_into().ok()?)).ok()? == rest.len() => {}
                0 => return None,
                0x0002 => fields.affected_class = Some(Uid::read(value)?),
                0x0003 => fields.requested_class = Some(Uid::read(value)?),
                0x0100 => fields.code = Some(number()?),
                0x0110 => fields.id = Some(number()?),
                0x0120 => fields.answers = Some(number()?),
                0x0600 => fields.destination = Some(AeTitle::read(value)?),
                0x0800 => fields.data = Some(number()?),
                0x0900 => fields.status = Some(number()?),
                0x1000 => fields.affected_instance = (length > 0).then(|| Uid::read(value)).transpose_ok()?,
                0x1001 => fields.requested_instance = (length > 0).then(|| Uid::read(value)).transpose_ok()?,
                _ => {}
            }
        }
        Some(fields)
    }

    fn command(self) -> Option<Command> {
        let code = self.code?;
        let (kind, message) = if code == CANCEL {
            (Kind::Cancel, self.answers?)
        } else if code & RESPONSE != 0 {
            (Kind::Response(Operation::of(code & !RESPONSE)?), self.answers?)
        } else {
            (Kind::Request(Operation::of(code)?), self.id?)
        };
        let requested = match kind {
            Kind::Request(operation) => {
                matches!(operation, Operation::NGet | Operation::NSet | Operation::NAction | Operation::NDelete)
            }
            Kind::Response(_) | Kind::Cancel => false,
        };
        // A request names one class, in the one place that is its own (PS3.7 sections 9.3 and 10.3).
        let (class, other) = if requested {
            (self.requested_class, self.affected_class)
        } else {
            (self.affected_class, self.requested_class)
        };
        let (instance, other_instance) = if requested {
            (self.requested_instance, self.affected_instance)
        } else {
            (self.affected_instance, self.requested_instance)
        };
        let has_data = self.data? != NO_DATA;
        let status = self.status;
        let sound = match kind {
            Kind::Request(operation) => {
                class.is_some()
                    && other.is_none()
                    && other_instance.is_none()
                    && status.is_none()
                    && self.answers.is_none()
                    && (operation == Operation::CMove) == self.destination.is_some()
                    && data_fits(operation, has_data)
                    && (operation != Operation::CStore || instance.is_some())
            }
            Kind::Response(_) => status.is_some() && self.id.is_none(),
            Kind::Cancel => !has_data,
        };
        let destination = self.destination;
        sound.then_some(Command { kind, message, has_data, status, class, instance, destination })
    }
}

/// What has a data set and what has none (PS3.7 sections 9.3 and 10.3).
fn data_fits(operation: Operation, has_data: bool) -> bool {
    match operation {
        Operation::CStore | Operation::CGet | Operation::CFind | Operation::CMove | Operation::NSet => has_data,
        Operation::CEcho | Operation::NGet | Operation::NDelete => !has_data,
        Operation::NEventReport | Operation::NAction | Operation::NCreate => true,
    }
}

trait TransposeOk<T> {
    /// None stays fine, a value that could not be read does not.
    fn transpose_ok(self) -> Option<Option<T>>;
}

impl<T> TransposeOk<T> for Option<Option<T>> {
    fn transpose_ok(self) -> Option<Option<T>> {
        match self {
            Some(None) => None,
            Some(value) => Some(value),
            None => Some(None),
        }
    }
}

/// The answer to a request that was refused, as a command set without data.
pub(crate) fn refusal(request: &Command, operation: Operation, status: u16) -> Vec<u8> {
    let mut body = Vec::new();
    let mut put = |element: u16, value: &[u8], pad: u8| {
        body.extend_from_slice(&[0, 0]);
        body.extend_from_slice(&element.to_le_bytes());
        let odd = value.len() % 2;
        body.extend_from_slice(&u32::try_from(value.len() + odd).unwrap_or(0).to_le_bytes());
        body.extend_from_slice(value);
        body.extend(std::iter::repeat_n(pad, odd));
    };
    if let Some(class) = &request.class {
        put(0x0002, class.as_str().as_bytes(), 0);
    }
    put(0x0100, &(operation.code() | RESPONSE).to_le_bytes(), 0);
    put(0x0120, &request.message.to_le_bytes(), 0);
    put(0x0800, &NO_DATA.to_le_bytes(), 0);
    put(0x0900, &status.to_le_bytes(), 0);
    if let Some(instance) = &request.instance {
        put(0x1000, instance.as_str().as_bytes(), 0);
    }
    let mut set = vec![0, 0, 0, 0, 4, 0, 0, 0];
    set.extend_from_slice(&u32::try_from(body.len()).unwrap_or(0).to_le_bytes());
    set.extend(body);
    set
}

#[cfg(test)]
pub(in crate::dicom) mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A command set of these elements.
    pub(in crate::dicom) fn set(elements: &[(u16, &[u8])]) -> Vec<u8> {
        let mut body = Vec::new();
        for (element, value) in elements {
            body.extend_from_slice(&[0, 0]);
            body.extend_from_slice(&element.to_le_bytes());
            body.extend_from_slice(&(value.len() as u32).to_le_bytes());
            body.extend_from_slice(value);
        }
        let mut set = vec![0, 0, 0, 0, 4, 0, 0, 0];
        set.extend_from_slice(&(body.len() as u32).to_le_bytes());
        set.extend(body);
        set
    }

    pub(in crate::dicom) const CLASS: &[u8] = b"1.2.840.10008.5.1.4.1.2.2.1\0";

    #[test]
    fn a_request_is_read_and_its_refusal_answers_it() {
        let bytes = set(&[
            (0x0002, CLASS),
            (0x0100, &[0x21, 0]),
            (0x0110, &[7, 0]),
            (0x0600, b"WS1 "),
            (0x0700, &[0, 0]),
            (0x0800, &[1, 0]),
        ]);
        let command = Command::read(&bytes).unwrap();
        assert_eq!(command.kind, Kind::Request(Operation::CMove));
        assert_eq!((command.message, command.has_data), (7, true));
        assert_eq!(command.destination.as_ref().unwrap().as_str(), "WS1");
        let answer = Command::read(&refusal(&command, Operation::CMove, 0x0124)).unwrap();
        assert_eq!(answer.kind, Kind::Response(Operation::CMove));
        assert_eq!((answer.message, answer.status, answer.has_data), (7, Some(0x0124), false));
        assert_eq!(answer.class, command.class);
    }

    #[test]
    fn what_can_be_read_in_two_ways_is_refused() {
        let echo: [(u16, &[u8]); 4] = [(0x0002, CLASS), (0x0100, &[0x30, 0]), (0x0110, &[1, 0]), (0x0800, &[1, 1])];
        assert!(Command::read(&set(&echo)).is_ok());
        let mut twice = echo.to_vec();
        twice.insert(2, (0x0100, &[1, 0]));
        let mut disordered = echo.to_vec();
        disordered.swap(0, 1);
        let mut with_data = echo.to_vec();
        with_data[3] = (0x0800, &[0, 0]);
        let mut wide = echo.to_vec();
        wide[1] = (0x0100, &[0x30, 0, 0, 0]);
        let mut answering = echo.to_vec();
        answering.insert(3, (0x0120, &[9, 0]));
        for bad in [twice, disordered, with_data, wide, answering, echo[1..].to_vec(), echo[..3].to_vec(), vec![]] {
            assert_eq!(Command::read(&set(&bad)), Err(Fault::MalformedCommand), "{bad:?}");
        }
        let mut long = set(&echo);
        long.extend_from_slice(&[0, 0, 0, 0x10, 0, 0, 0, 0]);
        assert_eq!(Command::read(&long), Err(Fault::MalformedCommand));
        assert_eq!(Command::read(&set(&echo)[12..]), Err(Fault::MalformedCommand));
    }

    proptest! {
        #[test]
        fn nothing_makes_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Command::read(&bytes);
        }
    }
}
