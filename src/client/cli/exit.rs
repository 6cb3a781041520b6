//! What the programs end with.

use std::process::ExitCode;

use crate::mqtt::ReasonCode;

/// How a program ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Exit {
    /// Done.
    Ok,
    /// The command line makes no sense.
    Usage,
    /// A file cannot be read or used.
    File,
    /// No connection: network, TLS or protocol.
    Connect,
    /// The connection was lost for good.
    Lost,
    /// `-W` passed.
    TimedOut,
    /// The server refused a message.
    PublishRefused,
    /// The server refused a subscription.
    SubscribeRefused,
    /// The server refused the CONNECT.
    Refused(ReasonCode),
    /// A signal asked for the end: the program dies by that signal.
    Signal(i32),
}

impl Exit {
    /// The exit code. A refused CONNECT ends with its Reason Code, except 0x82: that is 130, which
    /// in a shell means ctrl-c.
    #[must_use]
    pub(super) fn code(self) -> u8 {
        match self {
            Self::Ok => 0,
            Self::Usage => 1,
            Self::File => 2,
            Self::Connect | Self::Refused(ReasonCode::ProtocolError) => 3,
            Self::Lost => 4,
            Self::TimedOut => 5,
            Self::PublishRefused => 6,
            Self::SubscribeRefused => 7,
            Self::Refused(reason_code) => reason_code.as_u8(),
            Self::Signal(number) => u8::try_from(128 + number).unwrap_or(u8::MAX),
        }
    }

    /// Ends the program: by the signal itself if one asked for it, so that a shell loop stops too.
    #[must_use]
    pub(super) fn finish(self) -> ExitCode {
        if let Self::Signal(number) = self {
            let _ = signal_hook::low_level::emulate_default_handler(number);
        }
        ExitCode::from(self.code())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_connect_ends_with_its_reason_code_unless_a_shell_would_misread_it() {
        let code = |reason_code| Exit::Refused(reason_code).code();
        assert_eq!(code(ReasonCode::UnspecifiedError), 128);
        assert_eq!(code(ReasonCode::ProtocolError), 3);
        assert_eq!(code(ReasonCode::BadUserNameOrPassword), 134);
        assert_eq!(code(ReasonCode::WildcardSubscriptionsNotSupported), 162);
    }
}
