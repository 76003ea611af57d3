"""exchangelib creates an item in the inbox, looks for it, and then listens to the stream of notifications.

  ews_news.py ADDRESS PORT NAME CA USER PASSWORD COUNT  ->  {"subjects": ["a & b"], "events": ["NewMailEvent", ...]}

The stream is left after COUNT notifications, as a client does that has seen enough: the connection is closed.
"""

import json
import sys

import ews


def main(address: str, port: str, name: str, ca: str, user: str, password: str, count: str) -> None:
    account = ews.open_account(address, int(port), name, ca, user, password)

    import exchangelib  # after the environment is set

    exchangelib.Message(account=account, folder=account.inbox, subject="a & b").save()
    subjects = [item.subject for item in account.inbox.all().only("subject")]
    subscription = account.inbox.subscribe_to_streaming()
    events = []
    stream = account.inbox.get_streaming_events(
        subscription, connection_timeout=1, max_notifications_returned=int(count)
    )
    for notification in stream:
        events += [type(event).__name__ for event in notification.events]
    account.inbox.unsubscribe(subscription)
    print(json.dumps({"subjects": subjects, "events": events}))


if __name__ == "__main__":
    main(*sys.argv[1:])
