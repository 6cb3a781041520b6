//! What our broker does where the standards leave it a choice.
