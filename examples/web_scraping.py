"""
Scrape a book shop whose server is having a bad day.

    python examples/web_scraping.py

The shop is a small server that the script starts itself, so no network is needed. Some of its
pages answer 503 at first, one of them says when to come back, and one hangs. The scraper knows
nothing of that: `fetch` is five lines, and its policies do the rest.

    fetch × 3 ─► find_books × 3 ─► list_links ─► fetch × 12 ─► read_book × 12 ─► summarise
     lists                                        books
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from html.parser import HTMLParser
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from daglite import RetryPolicy, TimeoutPolicy, evaluate, task
from daglite.callbacks import AttemptFailed, Event

LISTS = 3
BOOKS_PER_LIST = 4


class UnavailableError(Exception):
    """A page can't be had now; `retry_after`, in seconds, is waited for if it's there."""

    def __init__(self, message: str, retry_after: str | None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


# --- the tasks ------------------------------------------------------------------


@task(
    # Up to 5 calls of each page, with random waits of at most 0.1, 0.2, 0.4, 0.8 s between them.
    retry=RetryPolicy(4, "exponential", delay="100ms", retry_on=(UnavailableError, TimeoutError)),
    # One second for each call: a page that hangs is asked for again.
    timeout=TimeoutPolicy("1s", grace="500ms"),
    # What kind of work this is, for whoever watches the run or sets its policies.
    tags=("http",),
)
def fetch(shop: str, path: str) -> str:
    """Get one page."""
    connection = HTTPConnection(shop)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        page = response.read().decode("utf-8")
    finally:
        connection.close()
    if response.status != 200:
        raise UnavailableError(f"{path}: {response.status}", response.getheader("Retry-After"))
    return page


@dataclass(frozen=True)
class Book:
    """What a book's page says; price in cents."""

    title: str
    price: int


@task
def find_books(page: str) -> list[str]:
    """Return the links to books on one page."""
    return [link for link in Page(page).links if link.startswith("/book/")]


@task
def list_links(pages: list[list[str]]) -> list[str]:
    """Return each link once, in order of appearance."""
    return list(dict.fromkeys(link for links in pages for link in links))


@task
def read_book(page: str) -> Book:
    """Read the page of one book."""
    fields = Page(page).fields
    return Book(fields["title"], round(float(fields["price"].removeprefix("$")) * 100))


@task
def summarise(books: list[Book]) -> str:
    """Say in one line what there is."""
    cheapest = min(books, key=lambda book: book.price)
    mean = sum(book.price for book in books) / len(books) / 100
    return f"{len(books)} books, ${mean:.2f} on average, cheapest: {cheapest.title}"


class Page(HTMLParser):
    """The links of a page, and the texts of its elements with a class: class -> text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.fields: dict[str, str] = {}
        self._open: str | None = None
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: Sequence[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.links += [link for link in [given.get("href")] if link]
        self._open = given.get("class")

    def handle_data(self, data: str) -> None:
        if self._open is not None:
            self.fields[self._open] = data
            self._open = None


class PrintFailures:
    """A callback that prints each failed attempt, and counts them."""

    def __init__(self) -> None:
        self.number = 0

    def on_event(self, event: Event) -> None:
        if isinstance(event, AttemptFailed):
            self.number += 1
            print(f"  {event}")


def main() -> None:
    """Start the shop, scrape it, and print what came out."""
    failures = PrintFailures()
    with open_shop() as shop:
        get = fetch.fix(shop=shop)
        lists = get.extend(path=[f"/list/{number}" for number in range(1, LISTS + 1)])
        links = lists.map(find_books).join(list_links)
        # How many books there are shows only while it runs; `map` makes a call for each.
        books = links.map(get).map(read_book)
        summary = evaluate(books.join(summarise), default_backend="threading", callbacks=[failures])
    print(f"{summary} ({failures.number} attempts failed)")


# --- the shop -------------------------------------------------------------------

# Path -> what goes wrong, request by request; after that, nothing does.
TROUBLES = {
    "/list/2": ["503"],
    "/book/3": ["503", "503"],
    "/book/5": ["hang"],
    "/book/8": ["503 with hint"],
    "/book/11": ["503", "503", "503"],
}


@contextmanager
def open_shop() -> Iterator[str]:
    """Run the server while the block runs; give its host and port."""
    server = Shop(("127.0.0.1", 0), ShopHandler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_address[1]}"
    finally:
        server.closing.set()
        server.shutdown()
        thread.join()
        server.server_close()


class Shop(ThreadingHTTPServer):
    """Knows how often each page was asked for."""

    daemon_threads = True

    def __init__(self, address: tuple[str, int], handler: type[BaseHTTPRequestHandler]) -> None:
        super().__init__(address, handler)
        self.closing = threading.Event()
        self._asked: Counter[str] = Counter()
        self._lock = threading.Lock()

    def next_trouble(self, path: str) -> str | None:
        """Return what goes wrong with this request for *path*."""
        with self._lock:
            asked = self._asked[path]
            self._asked[path] += 1
        troubles = TROUBLES.get(path, [])
        return troubles[asked] if asked < len(troubles) else None


class ShopHandler(BaseHTTPRequestHandler):
    """Answers one request."""

    server: Shop

    def do_GET(self) -> None:
        trouble = self.server.next_trouble(self.path)
        if trouble == "hang":
            self.server.closing.wait(30)
            return
        page = make_page(self.path).encode("utf-8")
        self.send_response(503 if trouble else 200)
        if trouble == "503 with hint":
            self.send_header("Retry-After", "1")
        self.end_headers()
        self.wfile.write(page)

    def log_message(self, format: str, *args: object) -> None:
        """Do nothing: the scraper prints what matters."""


def make_page(path: str) -> str:
    """Return the HTML of a list of books, or of one book."""
    kind, number = path.strip("/").split("/")
    if kind == "list":
        last = int(number) * BOOKS_PER_LIST
        books = range(last - BOOKS_PER_LIST + 1, last + 1)
        items = "".join(f'<li><a href="/book/{book}">Book {book}</a></li>' for book in books)
        return f'<a href="/list/1">first</a><ul>{items}</ul>'
    price = 5 + int(number) * 7 % 13
    return f'<h1 class="title">Book {number}</h1><p class="price">${price}.50</p>'


if __name__ == "__main__":
    main()
