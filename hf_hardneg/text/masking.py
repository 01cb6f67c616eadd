"""Masks in a text what must not leave the machine: tokens, and where files lie on it."""

from __future__ import annotations

import re

MASK, HIDDEN = "[masked]", "[path]"

_TOKEN = re.compile(
    r"""
      (?<![A-Za-z0-9])(?:
          (?:hf|api_org)_[A-Za-z0-9]{16,}               # Hugging Face
        | sk-[A-Za-z0-9_-]{16,}                         # OpenAI, Anthropic and those that copy them
        | gh[a-z]_[A-Za-z0-9]{16,} | github_pat_\w{16,} # GitHub
        | glpat-[\w-]{16,} | xox[a-z]-[\w-]{10,}        # GitLab, Slack
        | A(?:KI|SI)A[0-9A-Z]{16} | AIza[\w-]{30,}      # AWS, Google
        )
    | (?:(?<=//)|(?<=:/))[^/\s:@]+:[^/\s@]+(?=@)        # user and password in a URL, which may lack a slash
    | (?<=\bBearer\s)[\w.~+/-]{16,}=*
    | -----BEGIN[ ][A-Z ]*PRIVATE[ ]KEY-----(?s:.*?)(?:-----END[ ][A-Z ]*PRIVATE[ ]KEY-----|\Z)
    """,
    re.VERBOSE | re.IGNORECASE,
)
_SEGMENT = re.compile(r"[\w-]{11,}(?:(?=(\.[\w-]{8,}\.[\w-]*))|)")
_WEB_TOKEN = re.compile(r"(?<![A-Za-z0-9])eyJ(?=[\w-]{8})", re.IGNORECASE)
_HOME = r"(?:/home|/Users|/root|[A-Za-z]:[/\\]+Users|(?<!\w)~\w*)(?:[/\\]+[^\s/\\][^/\\\r\n]*)+"
_ABSOLUTE = r"(?:(?<![\w/:.~-])/|(?<!\w)[A-Za-z]:[/\\]+|(?<!\\)\\\\)[^\s/\\]+(?:[/\\]+[^\s/\\]+)+[/\\]*"
_PATH = re.compile(rf"(?:file:/*(?=/))?(?:{_HOME}|{_ABSOLUTE})")


def masked(text: str) -> str:
    """The text, with what looks like an access token or a private key replaced by `[masked]`."""
    return _without_web_tokens(_TOKEN.sub(MASK, text))


def _without_web_tokens(text: str) -> str:
    """The text with JSON web tokens masked: three segments with points between, of which the first begins `eyJ`.

    Each segment is read once; one pattern for the whole would begin anew at every `eyJ` in it.
    """
    kept, last = [], 0
    for segment in _SEGMENT.finditer(text):
        start = _WEB_TOKEN.search(text, max(segment.start(), last), segment.end()) if segment[1] else None
        if start:
            kept += [text[last : start.start()], MASK]
            last = segment.end() + len(segment[1])
    return "".join([*kept, text[last:]])


def scrubbed(text: str) -> str:
    """The text without tokens, and with absolute paths cut to their last part, or to `[path]` near the root.

    Of a path under a home directory all up to the line's last separator goes, since names of users may hold spaces.
    """
    return _PATH.sub(_last_part, masked(text))


def _last_part(path: re.Match[str]) -> str:
    parts = [part for part in re.split(r"[/\\]+", path.group().removeprefix("file:")) if part]
    return parts[-1] if len(parts) > 2 else HIDDEN
