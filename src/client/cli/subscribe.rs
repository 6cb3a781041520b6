//! What `mqtt_sub` does.

use std::{collections::VecDeque, io, num::NonZeroU16, time::Duration};

use bytes::Bytes;
use bytestring::ByteString;
use futures_util::FutureExt;
use tokio::time::{Instant, Interval, interval_at};

use super::{
    connection::Plan,
    conversation::{Conversation, Happening, in_words},
    diagnostics::Diagnostics,
    exit::Exit,
    field::check_field,
    print::{Printed, Printer},
    publish::DEFAULT_TOPIC,
    start_error::StartError,
    stats::Stats,
    sub_options::SubOptions,
};
use crate::{
    client::{
        message::Message,
        session::{Answer, Subscription, Unsubscription},
    },
    mqtt::{
        Publish, QoS, ReasonCode, RetainHandling, SubscribeFilter, SubscriptionOptions,
        TopicFilter, TopicName, UserProperty,
    },
};

/// Subscribes and prints.
pub(super) async fn run(options: &SubOptions, say: Diagnostics) -> Result<Exit, StartError> {
    let plan = Plan::new(&options.common, NonZeroU16::MAX)?;
    let choice = Choice::new(options, &plan)?;
    let printer = Printer::new(&options.print)?;
    let conversation = Conversation::new(&plan, &options.common, say, u32::MAX)
        .map_err(|source| StartError::File { path: "signals".to_owned(), source })?;
    let began = Instant::now();
    let rate = options.print.message_rate.then(|| interval_at(began + SECOND, SECOND));
    let subscriber = Subscriber {
        conversation,
        printer,
        choice,
        rate,
        in_this_second: 0,
        has_subscribed: false,
        is_finished: false,
        removals: VecDeque::new(),
        stats: Stats::new(),
        began,
        prints_stats: options.common.behaviour.stats.is_some(),
    };
    Ok(subscriber.run().await)
}

/// What to subscribe to, and what to do with what arrives.
struct Choice {
    filters: Vec<SubscribeFilter>,
    unwanted: Vec<ByteString>,
    filters_out: Vec<TopicFilter>,
    subscription_id: Option<u32>,
    subscribe_properties: Vec<UserProperty>,
    unsubscribe_properties: Vec<UserProperty>,
    options: super::sub_options::ChoiceOptions,
}

struct Subscriber {
    conversation: Conversation,
    printer: Printer,
    choice: Choice,
    rate: Option<Interval>,
    in_this_second: u64,
    has_subscribed: bool,
    /// Nothing more is printed; what is left is to delete retained messages.
    is_finished: bool,
    removals: VecDeque<TopicName>,
    stats: Stats,
    began: Instant,
    prints_stats: bool,
}

impl Subscriber {
    async fn run(mut self) -> Exit {
        let exit = loop {
            self.remove_retained();
            let is_idle = self.removals.is_empty() && self.conversation.client.open_len() == 0;
            if self.is_finished && is_idle {
                break Exit::Ok;
            }
            match self.turn().await {
                Ok(None) => {}
                Ok(Some(exit)) => break exit,
                // Nobody reads any more: that is how `mqtt_sub | head` ends.
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => break Exit::Ok,
                Err(error) => {
                    self.conversation.say.error(&format!("cannot write the output: {error}"));
                    break Exit::File;
                }
            }
        };
        let flushed = self.printer.flush();
        self.conversation.hang_up().await;
        if self.prints_stats {
            let figures = self.stats.figures(self.began.elapsed());
            self.conversation.say.write(&format!("{}\n", figures.to_json()));
        }
        match flushed {
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Exit::File,
            Ok(()) | Err(_) => exit,
        }
    }

    /// Deals with the next happening; the output is flushed before a wait.
    async fn turn(&mut self) -> io::Result<Option<Exit>> {
        if let Some(happening) = self.conversation.next().now_or_never() {
            return self.digest(happening);
        }
        self.printer.flush()?;
        let Some(rate) = &mut self.rate else {
            let happening = self.conversation.next().await;
            return self.digest(happening);
        };
        tokio::select! {
            happening = self.conversation.next() => self.digest(happening),
            _ = rate.tick() => {
                self.printer.print_rate(std::mem::take(&mut self.in_this_second))?;
                Ok(None)
            }
        }
    }

    fn digest(&mut self, happening: Happening) -> io::Result<Option<Exit>> {
        match happening {
            Happening::Connected(connack) => {
                if !(self.has_subscribed && connack.session_present) {
                    self.subscribe();
                }
                Ok(None)
            }
            Happening::Message(publish) => self.digest_message(&publish),
            Happening::Subscribed(answer) => Ok(self.digest_answer(&answer)),
            Happening::Unsubscribed(answer) => Ok(self.digest_unsubscribed(&answer)),
            Happening::Published(..) | Happening::Writable => Ok(None),
            Happening::End(exit) => Ok(Some(exit)),
        }
    }

    fn subscribe(&mut self) {
        let client = &mut self.conversation.client;
        if !self.choice.filters.is_empty() {
            client.subscribe(Subscription {
                filters: self.choice.filters.clone(),
                subscription_id: self.choice.subscription_id,
                user_properties: self.choice.subscribe_properties.clone(),
            });
        }
        if !self.choice.unwanted.is_empty() {
            client.unsubscribe(Unsubscription {
                filters: self.choice.unwanted.clone(),
                user_properties: self.choice.unsubscribe_properties.clone(),
            });
        }
        self.has_subscribed = true;
    }

    fn digest_answer(&mut self, answer: &Answer) -> Option<Exit> {
        let asked = self.choice.filters.iter().zip(&answer.reason_codes);
        let refused: Vec<_> = asked.filter(|(_, reason_code)| reason_code.is_error()).collect();
        for (asked, reason_code) in &refused {
            let words = in_words(**reason_code, answer.reason_string.as_deref(), None);
            let words = format!("subscribe to {} refused: {words}", asked.filter);
            self.conversation.say.error(&words);
        }
        let ends_here = self.choice.options.exit_after_suback && self.choice.unwanted.is_empty();
        if refused.len() == answer.reason_codes.len() || (ends_here && !refused.is_empty()) {
            return Some(Exit::SubscribeRefused);
        }
        ends_here.then_some(Exit::Ok)
    }

    fn digest_unsubscribed(&mut self, answer: &Answer) -> Option<Exit> {
        for (filter, reason_code) in self.choice.unwanted.iter().zip(&answer.reason_codes) {
            if *reason_code != ReasonCode::Success {
                let words = in_words(*reason_code, answer.reason_string.as_deref(), None);
                self.conversation.say.error(&format!("unsubscribe from {filter}: {words}"));
            }
        }
        self.choice.options.exit_after_suback.then_some(Exit::Ok)
    }

    fn digest_message(&mut self, publish: &Publish) -> io::Result<Option<Exit>> {
        let options = &self.choice.options;
        if self.is_finished {
            return Ok(None);
        }
        if options.retained_only && !publish.retain {
            self.is_finished = true;
            return Ok(None);
        }
        // An alias is resolved and wildcards are refused on the way in, so this is a topic name.
        let Ok(topic) = TopicName::parse(publish.topic.clone()) else { return Ok(None) };
        if self.choice.filters_out.iter().any(|filter| filter.matches(&topic)) {
            return Ok(None);
        }
        if options.remove_retained && publish.retain && !publish.payload.is_empty() {
            self.queue_removal(topic);
        }
        let options = &self.choice.options;
        if options.no_retained && publish.retain {
            return Ok(None);
        }
        if options.random_filter.is_none_or(is_chosen) {
            self.print(publish)?;
        }
        if self.choice.options.count.is_some_and(|count| self.stats.messages >= count.get()) {
            self.is_finished = true;
        }
        Ok(None)
    }

    fn print(&mut self, publish: &Publish) -> io::Result<()> {
        self.stats.count(publish.payload.len());
        self.in_this_second += 1;
        if self.rate.is_some() {
            return Ok(());
        }
        match self.printer.print(publish)? {
            Printed::Whole => {}
            Printed::Refused(words) => self.conversation.say.error(&words),
        }
        Ok(())
    }

    fn queue_removal(&mut self, topic: TopicName) {
        if self.removals.len() >= REMOVALS_MAX {
            let words = format!("too many retained messages at once: {} stays", topic.as_str());
            self.conversation.say.error(&words);
            return;
        }
        self.removals.push_back(topic);
    }

    /// Deletes what is queued for it, as far as there is room.
    fn remove_retained(&mut self) {
        while self.conversation.client.has_room() {
            let Some(topic) = self.removals.pop_front() else { return };
            self.conversation.client.publish(Message {
                topic,
                payload: Bytes::new(),
                qos: QoS::AtLeastOnce,
                retain: true,
                topic_alias: None,
                properties: None,
            });
        }
    }
}

impl Choice {
    fn new(options: &SubOptions, plan: &Plan) -> Result<Self, StartError> {
        let choice = &options.choice;
        let mut topics = plan.topics.clone();
        if topics.is_empty() && choice.unsubscribe.is_empty() {
            topics.push(DEFAULT_TOPIC.to_owned());
        }
        if let Some(group) = &choice.share {
            topics = topics.iter().map(|topic| format!("$share/{group}/{topic}")).collect();
        }
        let subscription_options = SubscriptionOptions {
            qos: options.common.behaviour.qos,
            no_local: false,
            retain_as_published: choice.retain_as_published,
            retain_handling: RetainHandling::SendAtSubscribe,
        };
        let filters: Result<Vec<_>, _> =
            topics.iter().map(|topic| parse_filter("-t", topic)).collect();
        let filters = filters?.into_iter().map(|filter| SubscribeFilter {
            filter: filter.to_byte_string(),
            options: subscription_options,
        });
        let unwanted: Result<Vec<_>, _> =
            choice.unsubscribe.iter().map(|topic| parse_filter("-U", topic)).collect();
        let filters_out: Result<_, _> =
            choice.filter_out.iter().map(|topic| parse_filter("-T", topic)).collect();
        let mut subscribe_properties = plan.properties.subscribe.clone();
        subscribe_properties.extend(options.common.behaviour.user_property.iter().cloned());
        if let Some(per_cent) = choice.random_filter
            && !(0.0..=100.0).contains(&per_cent)
        {
            let words = format!("--random-filter {per_cent}: it is a percentage, 0 to 100");
            return Err(StartError::Usage(words));
        }
        Ok(Self {
            filters: filters.collect(),
            unwanted: unwanted?.iter().map(TopicFilter::to_byte_string).collect(),
            filters_out: filters_out?,
            subscription_id: plan.properties.subscription_id,
            subscribe_properties,
            unsubscribe_properties: plan.properties.unsubscribe.clone(),
            options: choice.clone(),
        })
    }
}

fn parse_filter(option: &str, topic: &str) -> Result<TopicFilter, StartError> {
    check_field(option, topic.as_bytes())?;
    TopicFilter::parse(topic)
        .map_err(|error| StartError::usage(format!("{option} {topic}: {error}")))
}

/// Whether a message is among the percentage to print.
fn is_chosen(per_cent: f64) -> bool {
    let Ok(random) = getrandom::u32() else { return true };
    f64::from(random) < per_cent / 100.0 * f64::from(u32::MAX)
}

const SECOND: Duration = Duration::from_secs(1);
/// Retained messages that may wait for their deletion.
const REMOVALS_MAX: usize = 1_000_000;
