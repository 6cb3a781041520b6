//! Parts of the programs.
