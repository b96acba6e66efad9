//! What a new user writes in the first hour, in a crate of its own: nothing here may need a detour.

mod first_hour;

fn main() -> anyhow::Result<()> {
    first_hour::all()
}
