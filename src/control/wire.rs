//! The wire: JSON-RPC 2.0, one object a line. Pure; never panics, whatever the bytes.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, de::IgnoredAny};
use serde_json::{Value, json};

use super::{
    Change, Empty, EventsQuery, KillAll, LogLine, LogsQuery, ProcessesQuery, ProgramStatus,
    Refusal, RefusalCode, ReloadSite, Reply, Request, SemaphoreName, SendSignal, Shutdown, Targets,
};

/// The longest request, in bytes, its line end not counted.
pub const MAX_REQUEST_BYTES: usize = 64 * 1024;
/// The deepest nesting of a request.
pub const MAX_DEPTH: usize = 8;
/// The longest id that a client may give as text, in bytes.
const MAX_ID_BYTES: usize = 128;

/// JSON-RPC: this is no JSON.
pub const PARSE_ERROR: i32 = -32700;
/// JSON-RPC: this is no request.
pub const INVALID_REQUEST: i32 = -32600;
/// JSON-RPC: there is no such verb.
pub const NO_SUCH_METHOD: i32 = -32601;
/// JSON-RPC: the verb does not take these parameters.
pub const INVALID_PARAMS: i32 = -32602;

/// The verbs that a request can name.
pub const METHODS: [&str; 16] = [
    "status",
    "start",
    "stop",
    "restart",
    "reload",
    "reload_program",
    "signal",
    "reset",
    "logs",
    "events",
    "clear_semaphore",
    "processes",
    "kill_all",
    "follow_semaphore",
    "shutdown",
    "version",
];

/// What a client calls its request: any number or text, given back with the reply.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Id {
    /// A number.
    Number(u64),
    /// A text.
    Text(String),
    /// The request could not be read so far.
    #[default]
    Null,
}

/// A request as it arrived.
#[derive(Clone, Debug, PartialEq)]
pub struct Call {
    /// What the client calls it.
    pub id: Id,
    /// What it asks.
    pub request: Request,
}

/// Why a line is no request; to be sent back by [`encode_fault`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// What the client calls its request, as far as it could be read.
    pub id: Id,
    /// JSON-RPC's number.
    pub code: i32,
    /// In words.
    pub refusal: Refusal,
}

/// What a server sends.
#[derive(Clone, Debug, PartialEq)]
pub enum Message {
    /// The end of a request.
    Reply(Id, Reply),
    /// What becomes of the programs of a change that is under way.
    Progress(Id, Vec<ProgramStatus>),
    /// Lines of a stream; before them so many were dropped because the client was slow.
    Lines(Id, Vec<LogLine>, u64),
    /// A notification of a later version.
    Other,
}

/// Why a line of a server cannot be read.
#[derive(Debug)]
pub struct WireError(String);

impl fmt::Display for WireError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot read the reply: {}", self.0)
    }
}

impl std::error::Error for WireError {}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Envelope {
    jsonrpc: String,
    #[serde(default, deserialize_with = "some")]
    id: Option<Id>,
    method: String,
    #[serde(default)]
    #[expect(dead_code, reason = "read in a second pass, as what the verb takes")]
    params: Option<IgnoredAny>,
}

/// Tells `"id": null` from a missing id.
fn some<'d, D: Deserializer<'d>>(from: D) -> Result<Option<Id>, D::Error> {
    Id::deserialize(from).map(Some)
}

/// Reads one line, without its end, as a request.
///
/// # Errors
/// A [`Fault`] that is to be sent back: too long, nested too deep, no JSON, no JSON-RPC 2.0
/// request, an unknown verb, or parameters that the verb does not take.
pub fn decode_request(line: &[u8]) -> Result<Call, Fault> {
    if line.len() > MAX_REQUEST_BYTES {
        return Err(too_long());
    }
    if depth(line) > MAX_DEPTH {
        let text = format!("it is nested deeper than {MAX_DEPTH} levels");
        return Err(fault(Id::Null, INVALID_REQUEST, &text));
    }
    if line.trim_ascii_start().starts_with(b"[") {
        return Err(fault(Id::Null, INVALID_REQUEST, "it is a list, which is not supported"));
    }
    let envelope: Envelope = serde_json::from_slice(line).map_err(|e| {
        let code = if e.is_data() { INVALID_REQUEST } else { PARSE_ERROR };
        fault(Id::Null, code, &plain(&e))
    })?;
    let id = match envelope.id {
        Some(Id::Text(text)) if text.len() > MAX_ID_BYTES => {
            return Err(fault(Id::Null, INVALID_REQUEST, "its id is too long"));
        }
        Some(id @ (Id::Number(_) | Id::Text(_))) => id,
        Some(Id::Null) | None => {
            return Err(fault(Id::Null, INVALID_REQUEST, "it has no id"));
        }
    };
    if envelope.jsonrpc != "2.0" {
        return Err(fault(id, INVALID_REQUEST, "it is not JSON-RPC 2.0"));
    }
    match parse(&envelope.method, line) {
        Some(Ok(request)) => Ok(Call { id, request }),
        Some(Err(error)) => {
            let text =
                format!("the parameters of {} are wrong: {}", envelope.method, plain(&error));
            Err(fault(id, INVALID_PARAMS, &text))
        }
        None => Err(no_such_method(id)),
    }
}

/// The text of a JSON error without its "line 1": a request is one line.
fn plain(error: &serde_json::Error) -> String {
    error.to_string().replace(" at line 1 column", " at column")
}

fn parse(method: &str, line: &[u8]) -> Option<serde_json::Result<Request>> {
    Some(match method {
        "status" => optional::<Targets>(line).map(Request::Status),
        "start" => required::<Change>(line).map(Request::Start),
        "stop" => required::<Change>(line).map(Request::Stop),
        "restart" => required::<Change>(line).map(Request::Restart),
        "reload" => optional::<ReloadSite>(line).map(Request::Reload),
        "reload_program" => required::<Targets>(line).map(Request::ReloadProgram),
        "signal" => required::<SendSignal>(line).map(Request::Signal),
        "reset" => required::<Targets>(line).map(Request::Reset),
        "logs" => optional::<LogsQuery>(line).map(Request::Logs),
        "events" => optional::<EventsQuery>(line).map(Request::Events),
        "clear_semaphore" => required::<SemaphoreName>(line).map(Request::ClearSemaphore),
        "processes" => optional::<ProcessesQuery>(line).map(Request::Processes),
        "kill_all" => optional::<KillAll>(line).map(Request::KillAll),
        "follow_semaphore" => required::<SemaphoreName>(line).map(Request::FollowSemaphore),
        "shutdown" => optional::<Shutdown>(line).map(Request::Shutdown),
        "version" => optional::<Empty>(line).map(Request::Version),
        _ => return None,
    })
}

fn required<'d, T: Deserialize<'d>>(line: &'d [u8]) -> serde_json::Result<T> {
    #[derive(Deserialize)]
    struct With<T> {
        params: T,
    }
    serde_json::from_slice::<With<T>>(line).map(|with| with.params)
}

fn optional<'d, T: Deserialize<'d> + Default>(line: &'d [u8]) -> serde_json::Result<T> {
    #[derive(Deserialize)]
    struct With<T> {
        params: Option<T>,
    }
    serde_json::from_slice::<With<T>>(line).map(|with| with.params.unwrap_or_default())
}

/// How deep brackets and braces nest outside of strings.
fn depth(line: &[u8]) -> usize {
    let (mut depth, mut deepest, mut in_string, mut escaped) = (0_usize, 0, false, false);
    for byte in line {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b'[' | b'{' if !in_string => {
                depth = depth.saturating_add(1);
                deepest = deepest.max(depth);
            }
            b']' | b'}' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

fn fault(id: Id, code: i32, text: &str) -> Fault {
    let message = format!("cannot read the request: {text}");
    Fault { id, code, refusal: Refusal { code: RefusalCode::BadRequest, message, hint: None } }
}

/// The fault of a request that is longer than [`MAX_REQUEST_BYTES`].
#[must_use]
pub fn too_long() -> Fault {
    fault(Id::Null, INVALID_REQUEST, &format!("it is longer than {MAX_REQUEST_BYTES} bytes"))
}

fn no_such_method(id: Id) -> Fault {
    let mut fault = fault(id, NO_SUCH_METHOD, "this supervisor does not know the verb");
    fault.refusal.hint = Some(format!("the verbs are {}", METHODS.join(", ")));
    fault
}

/// A request as a line, with its end.
#[must_use]
pub fn encode_request(id: u64, request: &Request) -> Vec<u8> {
    let mut object = serde_json::to_value(request).unwrap_or_default();
    if let Some(map) = object.as_object_mut() {
        map.insert("jsonrpc".to_owned(), json!("2.0"));
        map.insert("id".to_owned(), json!(id));
    }
    line(&object)
}

/// A reply as a line, with its end; a refusal becomes a JSON-RPC error.
#[must_use]
pub fn encode_reply(id: &Id, reply: &Reply) -> Vec<u8> {
    #[derive(Serialize)]
    struct Answer<'a> {
        jsonrpc: &'static str,
        id: &'a Id,
        result: &'a Reply,
    }
    if let Reply::Error(refusal) = reply {
        return error_line(id, number(refusal.code), refusal);
    }
    line(&Answer { jsonrpc: "2.0", id, result: reply })
}

/// A fault as a line, with its end.
#[must_use]
pub fn encode_fault(fault: &Fault) -> Vec<u8> {
    error_line(&fault.id, fault.code, &fault.refusal)
}

/// A `progress` notification as a line, with its end.
#[must_use]
pub fn encode_progress(id: &Id, programs: &[ProgramStatus]) -> Vec<u8> {
    line(&json!({"jsonrpc": "2.0", "method": "progress",
                 "params": {"id": id, "programs": programs}}))
}

/// A `lines` notification as a line, with its end; `dropped` lines were lost before these.
#[must_use]
pub fn encode_lines(id: &Id, lines: &[LogLine], dropped: u64) -> Vec<u8> {
    line(&json!({"jsonrpc": "2.0", "method": "lines",
                 "params": {"id": id, "lines": lines, "dropped": dropped}}))
}

fn error_line(id: &Id, code: i32, refusal: &Refusal) -> Vec<u8> {
    line(&json!({"jsonrpc": "2.0", "id": id, "error": {
        "code": code,
        "message": refusal.message,
        "data": {"code": refusal.code, "hint": refusal.hint},
    }}))
}

/// The numbers of our own refusals, in the range that JSON-RPC leaves to servers.
fn number(code: RefusalCode) -> i32 {
    match code {
        RefusalCode::BadRequest => INVALID_REQUEST,
        RefusalCode::Failed => -32000,
        RefusalCode::NoSuchName => -32001,
        RefusalCode::NotPermitted => -32002,
        RefusalCode::InvalidSite => -32003,
        RefusalCode::ShuttingDown => -32004,
        RefusalCode::NeedsConfirmation => -32005,
    }
}

/// Our types have text keys and finite numbers or null, so this cannot fail; if it ever does the
/// other side sees an empty line, which it skips.
fn line<T: Serialize>(object: &T) -> Vec<u8> {
    let mut bytes = serde_json::to_vec(object).unwrap_or_default();
    bytes.push(b'\n');
    bytes
}

/// Reads one line of a server, without its end.
///
/// # Errors
/// The line is no JSON-RPC 2.0 reply or notification. A notification of a later version is none.
pub fn decode_message(line: &[u8]) -> Result<Message, WireError> {
    #[derive(Deserialize)]
    struct Any {
        #[serde(default)]
        id: Id,
        method: Option<String>,
        params: Option<Value>,
        result: Option<Reply>,
        error: Option<ErrorObject>,
    }
    let any: Any = serde_json::from_slice(line).map_err(|e| WireError(plain(&e)))?;
    match (any.method.as_deref(), any.result, any.error) {
        (None, Some(reply), None) => Ok(Message::Reply(any.id, reply)),
        (None, None, Some(error)) => Ok(Message::Reply(any.id, Reply::Error(error.refusal()))),
        (Some("progress"), None, None) => {
            let Progress { id, programs } = params(any.params)?;
            Ok(Message::Progress(id, programs))
        }
        (Some("lines"), None, None) => {
            let Batch { id, lines, dropped } = params(any.params)?;
            Ok(Message::Lines(id, lines, dropped))
        }
        (Some(_), None, None) => Ok(Message::Other),
        _ => Err(WireError("it is neither a reply nor a notification".to_owned())),
    }
}

fn params<T: for<'d> Deserialize<'d>>(params: Option<Value>) -> Result<T, WireError> {
    serde_json::from_value(params.unwrap_or_default()).map_err(|e| WireError(e.to_string()))
}

#[derive(Deserialize)]
struct Progress {
    id: Id,
    programs: Vec<ProgramStatus>,
}

#[derive(Deserialize)]
struct Batch {
    id: Id,
    lines: Vec<LogLine>,
    #[serde(default)]
    dropped: u64,
}

#[derive(Deserialize)]
struct ErrorObject {
    code: i32,
    message: String,
    data: Option<Value>,
}

impl ErrorObject {
    fn refusal(self) -> Refusal {
        let field = |name| self.data.as_ref().and_then(|data: &Value| data.get(name)).cloned();
        let code = field("code").and_then(|code| serde_json::from_value(code).ok());
        let hint = field("hint").and_then(|hint| serde_json::from_value(hint).ok()).flatten();
        let unread = (-32700..=-32600).contains(&self.code);
        let fallback = if unread { RefusalCode::BadRequest } else { RefusalCode::Failed };
        Refusal { code: code.unwrap_or(fallback), message: self.message, hint }
    }
}
