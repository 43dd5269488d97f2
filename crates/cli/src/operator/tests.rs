//! What the operator's commands read and write.
