//! What PUBACK, PUBREC, PUBREL and PUBCOMP have in common: their body.
