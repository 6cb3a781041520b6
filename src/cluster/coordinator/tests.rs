//! What brokers are told, in answer to what they say.

use super::*;

const A: BootId = BootId(1);
const B: BootId = BootId(2);
const C: BootId = BootId(3);

fn claim(number: u64) -> Word {
    let user = SessionUser::Known(None);
    Word::Claim(Claim { claim: number, client_id: "c".to_owned(), wants_session: true, user })
}

fn token(epoch: i64, counter: u64) -> Token {
    Token { era: 0, epoch, counter }
}

fn report(epoch: i64, token: Token, whereabouts: Whereabouts) -> Word {
    Word::Report(epoch, vec![Held { client_id: "c".to_owned(), token, whereabouts }])
}

fn settled(token: Token) -> Word {
    Word::Settled("c".to_owned(), token)
}

#[expect(clippy::wildcard_enum_match_arm, reason = "nothing else has one")]
fn token_of(tellings: &[Telling]) -> Token {
    let grants = tellings.iter().filter_map(|telling| match &telling.frame {
        ControlFrame::Grant(grant) => Some(grant.token),
        _ => None,
    });
    grants.last().expect("there is a grant")
}

#[expect(clippy::wildcard_enum_match_arm, reason = "a coordinator says nothing else")]
fn names(tellings: &[Telling]) -> Vec<(BootId, &'static str)> {
    let name = |telling: &Telling| match &telling.frame {
        ControlFrame::Grant(grant) if grant.from.is_some() => "grant, it comes",
        ControlFrame::Grant(_) => "grant",
        ControlFrame::Revoke(revoke) if revoke.wants_session => "hand over",
        ControlFrame::Revoke(_) => "give up",
        ControlFrame::ClaimRefused { .. } => "refuse",
        _ => "?",
    };
    tellings.iter().map(|telling| (telling.to, name(telling))).collect()
}

/// All three live, and none has reported.
fn begun(epoch: i64) -> Coordinator {
    let mut coordinator = Coordinator::new(1);
    assert!(coordinator.start_epoch(epoch, [A, B, C]).is_empty());
    coordinator
}

fn complete(coordinator: &mut Coordinator, epoch: i64) -> Vec<Telling> {
    let words = [A, B, C].map(|from| (from, Word::ReportComplete(epoch)));
    words.into_iter().flat_map(|(from, word)| coordinator.hear(from, word)).collect()
}

/// Nobody holds anything.
fn started() -> Coordinator {
    let mut coordinator = begun(7);
    assert!(complete(&mut coordinator, 7).is_empty());
    coordinator
}

#[test]
fn two_claims_in_one_instant_leave_one_holder_with_the_higher_token() {
    let mut coordinator = started();
    let first = coordinator.hear(A, claim(1));
    let second = coordinator.hear(B, claim(2));
    assert_eq!(names(&first), [(A, "grant")]);
    assert_eq!(names(&second), [(A, "hand over"), (B, "grant, it comes")]);
    assert!(token_of(&second) > token_of(&first));
}

/// Three moves were under way at once, and a new coordinator could not tell which broker had the
/// Session, which was to pass it on, and which was to get it last.
#[test]
fn a_further_claim_waits_until_the_session_has_arrived_and_only_the_newest() {
    let mut coordinator = started();
    let _first = coordinator.hear(A, claim(1));
    let second = coordinator.hear(B, claim(2));
    assert!(coordinator.hear(C, claim(3)).is_empty());
    assert_eq!(names(&coordinator.hear(A, claim(4))), [(C, "refuse")]);
    let third = coordinator.hear(B, settled(token_of(&second)));
    assert_eq!(names(&third), [(B, "hand over"), (A, "grant, it comes")]);
}

#[test]
fn who_asks_again_is_answered_again() {
    let mut coordinator = started();
    let _first = coordinator.hear(A, claim(1));
    let second = coordinator.hear(B, claim(2));
    let again = coordinator.hear(B, claim(2));
    assert_eq!(names(&again), [(B, "grant, it comes")]);
    assert_eq!(token_of(&again), token_of(&second));
}

#[test]
fn what_was_granted_since_is_not_released_by_a_late_word() {
    let mut coordinator = started();
    let first = coordinator.hear(A, claim(1));
    let _again = coordinator.hear(A, claim(2));
    assert!(coordinator.hear(A, Word::Released("c".to_owned(), token_of(&first))).is_empty());
    assert_eq!(coordinator.len(), 1);
}

/// An empty registry grants what another broker holds.
#[test]
fn a_new_coordinator_answers_when_all_have_reported() {
    let mut coordinator = begun(7);
    assert!(coordinator.hear(A, Word::ReportComplete(7)).is_empty());
    assert!(coordinator.hear(A, claim(1)).is_empty());
    assert!(coordinator.hear(B, report(7, token(3, 9), Whereabouts::Here)).is_empty());
    let answers = complete(&mut coordinator, 7);
    assert_eq!(names(&answers), [(B, "hand over"), (A, "grant, it comes")]);
}

/// A broker that heard of the new map first reported at once. Its report was not counted, and no
/// claim was ever answered.
#[test]
fn what_is_said_by_a_map_that_is_still_to_come_is_kept_until_it_comes() {
    let mut coordinator = started();
    let words = [
        report(8, token(3, 9), Whereabouts::Going),
        Word::ReportComplete(8),
        settled(token(3, 9)),
        claim(4),
    ];
    for word in words {
        assert!(coordinator.hear(B, word).is_empty());
    }
    assert_eq!(names(&coordinator.hear(A, claim(1))), [(A, "grant")], "by the map that A knows");
    assert!(coordinator.start_epoch(8, [A, B, C]).is_empty());
    assert!(coordinator.hear(A, claim(1)).is_empty(), "it says so again by the new map");
    assert!(coordinator.hear(A, Word::ReportComplete(8)).is_empty());
    assert_eq!(names(&coordinator.hear(C, Word::ReportComplete(8))), [(B, "grant")]);
    assert_eq!(coordinator.reports_awaited(), 0);
}

/// It was counted, and what had been granted since was not in it.
#[test]
fn a_report_by_an_older_map_does_not_count() {
    let mut coordinator = begun(8);
    assert!(coordinator.hear(A, report(7, token(3, 9), Whereabouts::Here)).is_empty());
    assert!(coordinator.hear(A, Word::ReportComplete(7)).is_empty());
    assert_eq!((coordinator.len(), coordinator.reports_awaited()), (0, 3));
}

#[test]
fn of_two_that_hold_the_same_the_one_with_the_lower_token_gives_up() {
    for order in [[(A, 2), (B, 1)], [(B, 1), (A, 2)]] {
        let mut coordinator = begun(7);
        for (broker, counter) in order {
            let word = report(7, token(3, counter), Whereabouts::Here);
            assert!(coordinator.hear(broker, word).is_empty(), "a third may have it as well");
        }
        assert_eq!(names(&complete(&mut coordinator, 7)), [(B, "give up")]);
    }
}

#[test]
fn nothing_of_a_move_is_granted_on_before_it_is_over() {
    let had = (A, report(7, token(3, 1), Whereabouts::Going));
    let gets = (B, report(7, token(3, 2), Whereabouts::Coming { claim: 5 }));
    for order in [[had.clone(), gets.clone()], [gets.clone(), had.clone()]] {
        let mut coordinator = begun(7);
        for (broker, word) in order {
            assert!(coordinator.hear(broker, word).is_empty());
        }
        assert!(complete(&mut coordinator, 7).is_empty());
        assert!(coordinator.hear(C, claim(9)).is_empty(), "it is on its way");
        let answers = coordinator.hear(B, settled(token(3, 2)));
        assert_eq!(names(&answers), [(B, "hand over"), (C, "grant, it comes")]);
    }
}

/// The order to give a Session up was lost with the coordinator that gave it.
#[test]
fn who_waits_for_what_another_one_has_gets_it() {
    let has = (A, report(7, token(3, 1), Whereabouts::Here));
    let waits = (B, report(7, token(3, 2), Whereabouts::Coming { claim: 5 }));
    for order in [[has.clone(), waits.clone()], [waits.clone(), has.clone()]] {
        let mut coordinator = begun(7);
        for (broker, word) in order {
            assert!(coordinator.hear(broker, word).is_empty());
        }
        let told = complete(&mut coordinator, 7);
        assert_eq!(names(&told), [(A, "hand over"), (B, "grant, it comes")]);
        assert!(coordinator.hear(C, claim(9)).is_empty(), "it is on its way");
        let answers = coordinator.hear(B, settled(token_of(&told)));
        assert_eq!(names(&answers), [(B, "hand over"), (C, "grant, it comes")]);
    }
}

#[test]
fn what_was_on_its_way_to_the_dead_is_where_it_was() {
    let mut coordinator = started();
    let _first = coordinator.hear(A, claim(1));
    let second = coordinator.hear(B, claim(2));
    assert!(coordinator.hear(C, claim(3)).is_empty());
    let told = coordinator.bury(B);
    assert_eq!(names(&told), [(A, "hand over"), (C, "grant, it comes")]);
    // It took it back before it heard that.
    assert!(coordinator.hear(A, settled(token_of(&second))).is_empty());
}

#[test]
fn who_keeps_a_session_after_all_is_its_holder_and_nobody_waits_for_it() {
    let mut coordinator = started();
    let _first = coordinator.hear(A, claim(1));
    let second = coordinator.hear(B, claim(2));
    assert!(coordinator.hear(C, claim(3)).is_empty());
    let told = coordinator.hear(A, settled(token_of(&second)));
    assert_eq!(names(&told), [(B, "refuse"), (A, "hand over"), (C, "grant, it comes")]);
}

#[test]
fn who_does_not_want_it_any_more_leaves_it_where_it_was() {
    let mut coordinator = started();
    let _first = coordinator.hear(A, claim(1));
    let second = coordinator.hear(B, claim(2));
    let told = coordinator.hear(B, Word::Released("c".to_owned(), token_of(&second)));
    assert!(told.is_empty());
    let told = coordinator.hear(C, claim(3));
    assert_eq!(names(&told), [(A, "hand over"), (C, "grant, it comes")]);
}

#[test]
fn nobody_waits_for_the_report_of_the_dead() {
    let mut coordinator = begun(7);
    for broker in [A, C] {
        assert!(coordinator.hear(broker, Word::ReportComplete(7)).is_empty());
    }
    assert!(coordinator.hear(A, claim(1)).is_empty());
    assert_eq!(names(&coordinator.bury(B)), [(A, "grant")]);
}
