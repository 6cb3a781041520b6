//! What `mqtt_pub` does.

use std::{collections::HashMap, sync::Arc, time::Duration};

use bytestring::ByteString;
use tokio::time::{Instant, sleep_until};

use super::{
    connection::{Plan, shared},
    conversation::{Conversation, Happening, in_words},
    diagnostics::Diagnostics,
    exit::Exit,
    field::check_field,
    json_lines::Draft,
    pace::Pace,
    progress::{Extent, Progress},
    pub_options::{MessageOptions, PubOptions},
    source::{Item, Source},
    start_error::StartError,
    stats::Stats,
};
use crate::{
    client::{
        message::Message,
        session::{PublishOutcome, Ticket},
    },
    mqtt::{MessageProperties, QoS, ReasonCode, TopicName, UserProperty},
};

/// Publishes what the options ask for.
pub(super) async fn run(options: &PubOptions, say: Diagnostics) -> Result<Exit, StartError> {
    let plan = Plan::new(&options.common, options.message.max_inflight)?;
    let form = Form::new(options, &plan)?;
    let source = Source::open(&options.payload, &options.message)?;
    let conversation = Conversation::new(&plan, &options.common, say, ATTEMPTS_MAX)
        .map_err(|source| StartError::File { path: "signals".to_owned(), source })?;
    let began = Instant::now();
    let total = source.total().map(|count| count.saturating_mul(form.topics.len() as u64));
    let extent = Extent::of(total, source.payload_len());
    let publisher = Publisher {
        conversation,
        is_typed: source.is_typed(),
        source: Some(source),
        pace: Pace::new(interval(&options.message)?),
        window: usize::from(options.message.max_inflight.get()),
        form,
        open: HashMap::new(),
        drafts: Vec::new(),
        is_connected: false,
        is_prompted: false,
        stats: Stats::new(),
        progress: Progress::new(extent, options.common.behaviour.quiet, began),
        extent,
        began,
        prints_stats: options.common.behaviour.stats.is_some(),
        has_bad_input: false,
    };
    Ok(publisher.run().await)
}

/// What all messages have in common.
struct Form {
    topics: Vec<TopicName>,
    qos: QoS,
    retain: bool,
    topic_alias: Option<std::num::NonZeroU16>,
    properties: Option<Arc<MessageProperties>>,
}

#[expect(clippy::struct_excessive_bools, reason = "none of them excludes another")]
struct Publisher {
    conversation: Conversation,
    /// Empty once it is exhausted.
    source: Option<Source>,
    is_typed: bool,
    form: Form,
    pace: Pace,
    window: usize,
    open: HashMap<Ticket, Sent>,
    /// Messages of one draft that still need room, the last one first.
    drafts: Vec<Message>,
    is_connected: bool,
    is_prompted: bool,
    stats: Stats,
    progress: Progress,
    extent: Extent,
    began: Instant,
    prints_stats: bool,
    /// The source broke off; what came before is still sent.
    has_bad_input: bool,
}

struct Sent {
    at: Instant,
    topic: TopicName,
    payload_len: usize,
}

impl Publisher {
    async fn run(mut self) -> Exit {
        let exit = loop {
            self.send_what_is_ready();
            if self.source.is_none() && self.drafts.is_empty() && self.open.is_empty() {
                break self.verdict();
            }
            self.prompt();
            if let Some(exit) = self.wait().await {
                break exit;
            }
        };
        let was_delivered = self.conversation.hang_up().await;
        self.progress.finish();
        if self.prints_stats {
            let figures = self.stats.figures(self.began.elapsed());
            self.conversation.say.write(&format!("{}\n", figures.to_json()));
        }
        if exit == Exit::Ok && !was_delivered {
            self.conversation.say.error("the connection was lost before everything was sent");
            return Exit::Lost;
        }
        exit
    }

    /// Everything is sent that could be.
    fn verdict(&self) -> Exit {
        if self.has_bad_input {
            return Exit::File;
        }
        if self.stats.refused > 0 { Exit::PublishRefused } else { Exit::Ok }
    }

    /// Waits for the first of: something from the server, the next payload, the next slot.
    async fn wait(&mut self) -> Option<Exit> {
        let wants_payload = self.wants_payload();
        let due = self.pace.wait_until(Instant::now());
        let is_due = due.is_none();
        let slot = async {
            match due {
                Some(due) => sleep_until(due).await,
                None => std::future::pending().await,
            }
        };
        let source = &mut self.source;
        let payload = async {
            match source {
                Some(source) => source.next().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            happening = self.conversation.next() => self.digest_all(happening),
            item = payload, if wants_payload && is_due => {
                self.take(item);
                None
            }
            () = slot, if wants_payload && !is_due => None,
            () = self.progress.tick() => {
                self.show_progress();
                None
            }
        }
    }

    /// Deals with everything that has happened, so that room is made for a batch and not for one.
    fn digest_all(&mut self, first: Happening) -> Option<Exit> {
        let mut next = Some(first);
        while let Some(happening) = next {
            if let Some(exit) = self.digest(happening) {
                return Some(exit);
            }
            next = self.conversation.try_next();
        }
        None
    }

    /// Publishes as long as there is room and something to publish without waiting.
    fn send_what_is_ready(&mut self) {
        while self.is_connected && self.has_room() {
            let now = Instant::now();
            if let Some(message) = self.drafts.pop() {
                self.publish(now, message);
                continue;
            }
            if !self.wants_payload() || self.pace.wait_until(now).is_some() {
                return;
            }
            let Some(item) = self.source.as_mut().and_then(Source::try_next) else { return };
            self.take(item);
        }
    }

    fn wants_payload(&self) -> bool {
        self.is_connected
            && self.source.is_some()
            && self.drafts.is_empty()
            && self.has_room()
            && (!self.is_typed || self.open.is_empty())
    }

    fn has_room(&self) -> bool {
        let is_in_window = self.form.qos == QoS::AtMostOnce || self.open.len() < self.window;
        is_in_window && self.conversation.client.has_room()
    }

    fn take(&mut self, item: Item) {
        match item {
            Item::Draft(draft) => self.begin(draft),
            Item::Unended(draft) => {
                self.conversation.say.note("");
                self.begin(draft);
            }
            Item::Finished => {
                if self.is_typed && self.is_prompted {
                    // A ctrl-d leaves the cursor behind the prompt.
                    self.conversation.say.note("");
                }
                self.source = None;
            }
            Item::Failed(words) => {
                self.source = None;
                self.conversation.say.error(&words);
                self.has_bad_input = true;
            }
        }
    }

    fn begin(&mut self, draft: Draft) {
        self.pace.sent(Instant::now());
        self.drafts = self.form.messages(draft);
        self.drafts.reverse();
    }

    fn publish(&mut self, now: Instant, message: Message) {
        let sent =
            Sent { at: now, topic: message.topic.clone(), payload_len: message.payload.len() };
        let ticket = self.conversation.client.publish(message);
        self.open.insert(ticket, sent);
        self.is_prompted = false;
    }

    fn digest(&mut self, happening: Happening) -> Option<Exit> {
        match happening {
            Happening::Connected(_) => {
                self.is_connected = true;
                // What was said about the connection stands behind the old prompt.
                self.is_prompted = false;
                None
            }
            Happening::Published(ticket, outcome) => {
                self.digest_outcome(ticket, &outcome);
                None
            }
            // A session continued with -c may still bring messages of earlier subscriptions.
            Happening::Message(_)
            | Happening::Subscribed(_)
            | Happening::Unsubscribed(_)
            | Happening::Writable => None,
            Happening::End(exit) => Some(exit),
        }
    }

    fn digest_outcome(&mut self, ticket: Ticket, outcome: &PublishOutcome) {
        let Some(sent) = self.open.remove(&ticket) else { return };
        let now = Instant::now();
        match outcome {
            PublishOutcome::Sent => self.stats.count(sent.payload_len),
            PublishOutcome::Acknowledged(_) => {
                self.stats.count(sent.payload_len);
                self.stats.latencies.record(now.duration_since(sent.at));
            }
            PublishOutcome::Refused(reason_code, words) => {
                self.stats.refused += 1;
                if !self.is_typed {
                    let topic = sent.topic.as_str();
                    let words = in_words(*reason_code, words.as_deref(), None);
                    let words = format!("publish to {topic} refused: {words}");
                    self.conversation.say.error(&words);
                }
            }
        }
        if self.is_typed {
            let words = describe(sent.payload_len, outcome);
            let words = match self.form.topics.len() {
                1 => words,
                _ => format!("{}: {words}", sent.topic.as_str()),
            };
            self.conversation.say.note(&words);
        }
    }

    fn show_progress(&mut self) {
        let done = match self.extent {
            Extent::Messages(_) | Extent::Unknown => self.stats.messages + self.stats.refused,
            Extent::Bytes(total) => {
                total.saturating_sub(self.conversation.client.unsent_len() as u64)
            }
        };
        self.progress.update(done, &self.stats, Instant::now());
    }

    fn prompt(&mut self) {
        if self.is_typed && self.wants_payload() && !self.is_prompted {
            self.is_prompted = true;
            let topics: Vec<_> = self.form.topics.iter().map(TopicName::as_str).collect();
            self.conversation.say.write(&format!("{}> ", topics.join(" ")));
        }
    }
}

impl Form {
    fn new(options: &PubOptions, plan: &Plan) -> Result<Self, StartError> {
        let mut names = plan.topics.clone();
        if names.is_empty() {
            names.push(DEFAULT_TOPIC.to_owned());
        }
        let parse = |name: String| {
            TopicName::parse(name.as_str().into())
                .map_err(|error| StartError::usage(format!("-t {name}: {error}")))
        };
        let topics: Result<_, _> = names.into_iter().map(parse).collect();
        Ok(Self {
            topics: topics?,
            qos: options.common.behaviour.qos,
            retain: options.message.retain,
            topic_alias: plan.properties.topic_alias,
            properties: shared(&properties(options, plan)?),
        })
    }

    /// A message for each topic; a draft that names its own goes there alone.
    fn messages(&self, draft: Draft) -> Vec<Message> {
        let topics = draft.topic.map_or_else(|| self.topics.clone(), |topic| vec![topic]);
        let message = |topic| Message {
            topic,
            payload: draft.payload.clone(),
            qos: draft.qos.unwrap_or(self.qos),
            retain: draft.retain.unwrap_or(self.retain),
            topic_alias: self.topic_alias,
            properties: self.properties.clone(),
        };
        topics.into_iter().map(message).collect()
    }
}

fn properties(options: &PubOptions, plan: &Plan) -> Result<MessageProperties, StartError> {
    let mut properties = plan.properties.publish.clone();
    let message = &options.message;
    if let Some(secs) = message.expiry {
        properties.message_expiry_interval_secs = Some(secs);
    }
    if let Some(content_type) = &message.content_type {
        check_field("--content-type", content_type.as_bytes())?;
        properties.content_type = Some(content_type.as_str().into());
    }
    if let Some(topic) = &message.response_topic {
        let wrong = |error| StartError::usage(format!("--response-topic {topic}: {error}"));
        properties.response_topic = Some(TopicName::parse(topic.as_str().into()).map_err(wrong)?);
    }
    if let Some(correlation) = &message.correlation {
        use std::os::unix::ffi::OsStrExt;
        check_field("--correlation", correlation.as_bytes())?;
        properties.correlation_data = Some(bytes::Bytes::copy_from_slice(correlation.as_bytes()));
    }
    properties.user_properties.extend(options.common.behaviour.user_property.iter().cloned());
    let stream_property = |name: &str, value: ByteString| UserProperty { name: name.into(), value };
    if let Some(key) = &message.partition_key {
        check_field("--partition-key", key.as_bytes())?;
        let property = stream_property("partition-key", key.as_str().into());
        properties.user_properties.push(property);
    }
    if let Some(partition) = message.partition {
        let property = stream_property("partition", partition.to_string().into());
        properties.user_properties.push(property);
    }
    Ok(properties)
}

fn interval(options: &MessageOptions) -> Result<Duration, StartError> {
    if let Some(delay) = options.repeat_delay {
        return Ok(delay);
    }
    let Some(rate) = options.rate else { return Ok(Duration::ZERO) };
    let wrong = || StartError::usage(format!("--rate {rate}: it is a positive number"));
    if rate <= 0.0 {
        return Err(wrong());
    }
    Duration::try_from_secs_f64(1.0 / rate).map_err(|_| wrong())
}

/// What a person at the prompt reads after each line.
fn describe(payload_len: usize, outcome: &PublishOutcome) -> String {
    let unit = if payload_len == 1 { "byte" } else { "bytes" };
    let words = match outcome {
        PublishOutcome::Sent => "sent".to_owned(),
        PublishOutcome::Acknowledged(ReasonCode::Success) => "acknowledged".to_owned(),
        PublishOutcome::Acknowledged(reason_code) => format!("acknowledged ({reason_code})"),
        PublishOutcome::Refused(reason_code, words) => {
            format!("refused: {}", in_words(*reason_code, words.as_deref(), None))
        }
    };
    format!("{payload_len} {unit}, {words}")
}

/// Where messages go when nobody says otherwise.
pub(super) const DEFAULT_TOPIC: &str = "/Testing";
/// How often in a row a lost connection is tried again: about a minute. A script must not hang.
const ATTEMPTS_MAX: u32 = 8;
