//! What was said and may not have been heard.

use crate::cluster::coordinator::holding::Stay;
use crate::cluster::coordinator::{Coordinator, Telling};
use crate::cluster::frame::{ControlFrame, Revoke};
use crate::cluster::identity::BootId;
use crate::ports::auth::SessionUser;

impl Coordinator {
    /// What `to` was told to give up and, as far as is known, has not: once more. Whether the Session
    /// is wanted, and by whom, is not known any more; whoever does not want it ends it.
    #[must_use]
    pub fn repeat_orders(&self, to: BootId) -> Vec<Telling> {
        let order = |client_id: &str, holding: &super::Holding| {
            let Stay::Arriving { claim, from: Some(from), .. } = &holding.stay else { return None };
            let client_id = client_id.to_owned();
            (*from == to).then_some(Revoke {
                client_id,
                token: holding.token,
                to: holding.holder,
                claim: *claim,
                wants_session: true,
                // It is looked at again where it comes.
                user: SessionUser::Unknown,
            })
        };
        let holdings = self.holdings.iter();
        let mut orders: Vec<_> = holdings.filter_map(|(id, holding)| order(id, holding)).collect();
        orders.sort_unstable_by(|one, other| one.client_id.cmp(&other.client_id));
        orders.into_iter().map(|order| Telling { to, frame: ControlFrame::Revoke(order) }).collect()
    }
}
