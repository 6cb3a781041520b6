mod comparing;
mod faults;
mod million;
mod rules;
mod world;
