"""Write every page of docs/reference."""

from tests.docs.reference.pages import write_all

if __name__ == "__main__":
    write_all()
