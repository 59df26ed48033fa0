"""The command yt-lyrics. Ctrl-C while Python still imports is no reason for a traceback."""

import sys


def main() -> None:
    try:
        from flows import cli
    except KeyboardInterrupt:
        sys.exit(130)
    cli.main()


if __name__ == "__main__":
    main()
