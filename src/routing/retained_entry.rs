//! What is kept of one topic: a message that stays until it is replaced, and above it perhaps one
//! that holds for a while.

/// Which of the two messages of a topic.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Layer {
    /// The retained message.
    Lasting,
    /// The latest value: as long as it holds, it is what a new Subscription gets.
    Latest,
}

/// A message, and what it costs.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Kept<M> {
    /// The message.
    pub message: M,
    /// All the memory that is kept because of it.
    pub bytes_pinned: usize,
    /// When it is not found any more.
    pub expires_at_ms: Option<u64>,
}

/// Both messages of one topic.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Layers<M> {
    /// The retained message.
    pub lasting: Option<Kept<M>>,
    /// The latest value; most topics have none.
    pub latest: Option<Box<Kept<M>>>,
}

impl<M> Default for Layers<M> {
    fn default() -> Self {
        Self { lasting: None, latest: None }
    }
}

impl<M> Layers<M> {
    pub(super) fn of(&self, layer: Layer) -> Option<&Kept<M>> {
        match layer {
            Layer::Lasting => self.lasting.as_ref(),
            Layer::Latest => self.latest.as_deref(),
        }
    }

    pub(super) fn replace(&mut self, layer: Layer, kept: Option<Kept<M>>) -> Option<Kept<M>> {
        match layer {
            Layer::Lasting => std::mem::replace(&mut self.lasting, kept),
            Layer::Latest => {
                std::mem::replace(&mut self.latest, kept.map(Box::new)).map(|boxed| *boxed)
            }
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.lasting.is_none() && self.latest.is_none()
    }

    /// What a new Subscription gets: the latest value as long as it holds, else what lasts.
    pub(super) fn current(&self, now_ms: u64) -> Option<&M> {
        let layers = [self.of(Layer::Latest), self.of(Layer::Lasting)];
        let kept = layers.into_iter().flatten().find(|kept| !kept.is_expired(now_ms))?;
        Some(&kept.message)
    }
}

impl<M: Clone> Layers<M> {
    /// The same without what has expired.
    pub(super) fn at(&self, now_ms: u64) -> Self {
        let holds = |kept: &&Kept<M>| !kept.is_expired(now_ms);
        Self {
            lasting: self.lasting.as_ref().filter(holds).cloned(),
            latest: self.latest.as_deref().filter(holds).cloned().map(Box::new),
        }
    }
}

impl<M> Kept<M> {
    fn is_expired(&self, now_ms: u64) -> bool {
        self.expires_at_ms.is_some_and(|at_ms| at_ms <= now_ms)
    }
}

/// How many messages there are of a kind, and their bytes, within bounds.
#[derive(Debug)]
pub(super) struct Tally {
    pub(super) messages: usize,
    pub(super) bytes: usize,
    messages_max: usize,
    bytes_max: usize,
}

impl Tally {
    pub(super) fn new(messages_max: usize, bytes_max: usize) -> Self {
        Self { messages: 0, bytes: 0, messages_max, bytes_max }
    }

    /// Counts a message of so many bytes, in place of one of `former` bytes if there was one.
    pub(super) fn exchange(&mut self, former: Option<usize>, bytes: usize) -> Result<(), Full> {
        let bytes_after = self.bytes - former.unwrap_or(0) + bytes;
        if bytes_after > self.bytes_max {
            return Err(Full::Bytes);
        }
        if former.is_none() && self.messages >= self.messages_max {
            return Err(Full::Messages);
        }
        self.messages += usize::from(former.is_none());
        self.bytes = bytes_after;
        Ok(())
    }

    /// One of so many bytes is gone.
    pub(super) fn release(&mut self, bytes: usize) {
        self.messages -= 1;
        self.bytes -= bytes;
    }
}

/// Why a message was not kept; the topic's former message, if any, still is.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Full {
    /// There are as many as there may be.
    #[error("no more retained messages are allowed")]
    Messages,
    /// It would pin more memory than is allowed.
    #[error("no more memory is allowed for retained messages")]
    Bytes,
}
