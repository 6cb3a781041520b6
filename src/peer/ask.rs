//! Who is it that answers at an address?

use crate::cluster::frame::{Cursors, Welcome};
use crate::cluster::identity::BootId;
use crate::peer::Links;
use crate::peer::dial::{connect, in_time};
use crate::peer::error::LinkError;
use crate::peer::handshake::{Answer, call};

impl Links {
    /// Whether the life `boot_id` of a broker answers at `address`. Some other broker may: addresses
    /// are given to others when a broker has ended. A process that is stopped accepts connections
    /// and says nothing, which is no answer.
    pub async fn is_answered_by(&self, address: &str, boot_id: BootId) -> bool {
        let answer = self.ask(address, boot_id).await;
        if let Err(error) = &answer {
            tracing::debug!(address, ?boot_id, %error, "a broker does not say whether it is there");
        }
        answer.is_ok_and(|answer| answer.is_from(boot_id))
    }

    async fn ask(&self, address: &str, boot_id: BootId) -> Result<Answer, LinkError> {
        let ground = &*self.ground;
        let mut stream = in_time(ground, LinkError::TimedOut, connect(address, ground)).await?;
        let hello = ground.hello(boot_id, Cursors::default());
        let answer = call(&mut stream, &hello, &ground.options.secret);
        in_time(ground, LinkError::Silent, answer).await
    }
}

impl Answer {
    /// Who refuses says who it is, and who accepts was meant.
    fn is_from(&self, meant: BootId) -> bool {
        self.is_proven
            && match &self.welcome {
                Welcome::Accepted { .. } => true,
                Welcome::Refused { boot_id, .. } => *boot_id == meant,
            }
    }
}
