"""A Hub on loopback: the part of its HTTP protocol that `huggingface_hub` and `datasets` speak, with xet switched off.

It keeps history as git does: a commit is a snapshot of paths to content, a branch a name for a commit. Every request is
counted, and `break_at` makes one, or all from one on, fail.
"""

import base64
import hashlib
import json
import re
import socket
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit

import yaml

TOKENS = {"hf_secretOfAda": "ada", "hf_secretOfBob": "bob", "hf_secretOfUser": "user"}
LFS_SUFFIXES = (".parquet", ".faiss", ".npy", ".bin", ".arrow")


@dataclass(frozen=True)
class File:
    """Content by what the Hub names it: git's SHA-1 of a blob, or SHA-256 where it is in LFS."""

    content: bytes
    lfs: bool

    @property
    def oid(self):
        if self.lfs:
            return hashlib.sha256(self.content).hexdigest()
        return hashlib.sha1(b"blob %d\0" % len(self.content) + self.content).hexdigest()


@dataclass(frozen=True)
class Commit:
    files: dict
    parent: str | None
    message: str

    @property
    def sha(self):
        tree = [(path, file.oid) for path, file in sorted(self.files.items())]
        return hashlib.sha1(repr((tree, self.parent, self.message)).encode()).hexdigest()


@dataclass
class Repo:
    name: str
    private: bool
    branches: dict = field(default_factory=dict)
    commits: dict = field(default_factory=dict)

    def commit(self, files, message, branch="main"):
        made = Commit(dict(files), self.branches.get(branch), message)
        self.commits[made.sha] = made
        self.branches[branch] = made.sha
        return made.sha

    def files(self, revision="main"):
        return self.commits[self.branches.get(revision, revision)].files

    def history(self, branch="main"):
        """Messages, newest first."""
        sha, messages = self.branches[branch], []
        while sha is not None:
            messages.append(self.commits[sha].message)
            sha = self.commits[sha].parent
        return messages


class Refused(Exception):
    def __init__(self, status, message, code=None, **body):
        super().__init__(message)
        headers = {"X-Error-Message": message} | ({"X-Error-Code": code} if code else {})
        self.reply = (status, headers, json.dumps({"error": message} | body).encode())


class Hub:
    """State and requests so far. `before` is called with (method, path) ahead of each, outside the lock.

    `break_at(n, how)` lets request n fail, counted from now on; with `from_then_on` all later ones too. How: `"drop"`
    closes the line before anything is done, `"lose"` does it and closes before the answer, a number is a status.
    """

    def __init__(self):
        self.repos, self.objects, self.requests = {}, {}, []
        self.before = None
        self.lock = threading.RLock()
        self.mend()

    def break_at(self, number, how="drop", from_then_on=False):
        start = len(self.requests) + number
        self.broken, self.how = range(start, 10**9 if from_then_on else start + 1), how

    def mend(self):
        self.broken, self.how = range(0), None

    def take(self, method, path):
        if self.before is not None:
            self.before(method, path)
        with self.lock:
            self.requests.append(f"{method} {path}")
            return self.how if len(self.requests) - 1 in self.broken else None

    def readme(self, name, revision="main"):
        return self.repos[name].files(revision)["README.md"].content.decode()

    def write(self, name, path, content):
        """What somebody else commits."""
        content = content.encode() if isinstance(content, str) else content
        with self.lock:
            repo = self.repos.get(name) or self.create(name)
            repo.commit(repo.files() | {path: File(content, path.endswith(LFS_SUFFIXES))}, f"Edit {path}")

    def create(self, name, private=False):
        repo = self.repos[name] = Repo(name, private)
        repo.commit({".gitattributes": File(b"*.parquet filter=lfs\n", False)}, "initial commit")
        return repo

    # What follows answers requests: (status, headers, body), or JSON.

    def found(self, user, name, revision=None):
        repo = self.repos.get(name)
        if repo is None or (repo.private and user != name.split("/")[0]):
            if user is None:
                raise Refused(401, "Invalid username or password.")
            raise Refused(404, "Repository not found", "RepoNotFound")
        if revision is None:
            return repo
        sha = repo.branches.get(revision, revision)
        if sha not in repo.commits:
            raise Refused(404, f"Invalid rev id: {revision}", "RevisionNotFound")
        return repo, sha, repo.commits[sha].files

    def writable(self, user, name):
        if user is None:
            raise Refused(401, "Invalid username or password.")
        if user != name.split("/")[0]:
            raise Refused(403, f"You don't have the rights to write in {name}")

    def whoami(self, user, request):
        if user is None:
            raise Refused(401, "Invalid username or password.")
        return {"type": "user", "name": user, "orgs": []}

    def create_repo(self, user, request):
        asked = request.json
        name = f"{asked.get('organization') or user}/{asked['name']}"
        self.writable(user, name)
        if name in self.repos:
            raise Refused(409, "You already created this dataset repo", url=f"{request.root}/datasets/{name}")
        self.create(name, asked.get("visibility") == "private" or bool(asked.get("private")))
        return {"url": f"{request.root}/datasets/{name}"}

    def delete_repo(self, user, request):
        name = f"{request.json.get('organization') or user}/{request.json['name']}"
        self.writable(user, name)
        del self.repos[name]
        return {}

    def info(self, user, request, name, revision="main"):
        repo, sha, files = self.found(user, name, unquote(revision))
        siblings = [{"rfilename": path, "size": len(file.content)} for path, file in sorted(files.items())]
        return {"id": name, "sha": sha, "private": repo.private, "tags": [], "siblings": siblings}

    def refs(self, user, request, name):
        kinds = {"branches": [], "converts": [], "tags": []}
        for branch, sha in self.found(user, name).branches.items():
            kinds["branches"].append({"name": branch, "ref": f"refs/heads/{branch}", "targetCommit": sha})
        return kinds

    def branch(self, user, request, name, branch):
        repo = self.found(user, name)
        self.writable(user, name)
        if unquote(branch) in repo.branches:
            raise Refused(409, "Reference already exists")
        start = request.json.get("startingPoint", "main")
        repo.branches[unquote(branch)] = repo.branches.get(start, start)
        return {}

    def tree(self, user, request, name, revision, path=""):
        _, _, files = self.found(user, name, unquote(revision))
        prefix, recursive = unquote(path).strip("/"), request.query.get("recursive", ["false"])[0].lower() == "true"
        inside = {one: file for one, file in files.items() if not prefix or one.startswith(f"{prefix}/")}
        if prefix and not inside:
            raise Refused(404, f"{prefix} does not exist on {revision!r}", "EntryNotFound")
        return list(_entries(inside, prefix, recursive).values())

    def paths_info(self, user, request, name, revision):
        _, _, files = self.found(user, name, unquote(revision))
        asked = request.json["paths"]
        every = _entries(files, "", recursive=True)
        return [every[path] for path in asked if path in every]

    def preupload(self, user, request, name, revision):
        _, _, files = self.found(user, name, unquote(revision))
        self.writable(user, name)
        modes = []
        for asked in request.json["files"]:
            path = asked["path"]
            mode = "lfs" if path.endswith(LFS_SUFFIXES) or asked["size"] > 5_000_000 else "regular"
            oid = files[path].oid if path in files else None
            modes.append({"path": path, "uploadMode": mode, "shouldIgnore": False, "oid": oid})
        return {"files": modes}

    def lfs_batch(self, user, request, name):
        self.found(user, name)
        self.writable(user, name)
        objects = []
        for one in request.json["objects"]:
            upload = {"upload": {"href": f"{request.root}/lfs/{one['oid']}"}}
            objects.append(one if one["oid"] in self.objects else one | {"actions": upload})
        return {"transfer": "basic", "objects": objects}

    def lfs_put(self, user, request, oid):
        if hashlib.sha256(request.body).hexdigest() != oid:
            raise Refused(400, "The content is not what its name says")
        self.objects[oid] = request.body
        return {}

    def validate(self, user, request):
        match = re.match(r"---\r?\n(.*?)\r?\n---", request.json["content"], re.DOTALL)
        try:
            data = yaml.safe_load(match.group(1)) if match else {}
        except yaml.YAMLError as error:
            raise Refused(400, "Invalid YAML", errors=[{"message": str(error)}]) from None
        if data is not None and not isinstance(data, dict):
            raise Refused(400, "Invalid YAML", errors=[{"message": "must be a mapping"}])
        return {"errors": [], "warnings": []}

    def commit(self, user, request, name, revision):
        repo, sha, files = self.found(user, name, unquote(revision))
        self.writable(user, name)
        lines = [json.loads(line) for line in request.body.splitlines()]
        header, operations = lines[0]["value"], lines[1:]
        if header.get("parentCommit", sha) != sha:
            raise Refused(412, "A commit has happened since. Please refresh and try again.")
        files = dict(files)
        for operation in operations:
            self._apply(files, operation["key"], operation["value"])
        branch, pull = unquote(revision), None
        if "create_pr" in request.query:
            number = 1 + sum(one.startswith("refs/pr/") for one in repo.branches)
            branch, pull = f"refs/pr/{number}", f"{request.root}/datasets/{name}/discussions/{number}"
            repo.branches[branch] = sha
        made = repo.commit(files, header["summary"], branch)
        return {"commitUrl": f"{request.root}/datasets/{name}/commit/{made}", "commitOid": made, "pullRequestUrl": pull}

    def _apply(self, files, key, value):
        path = value["path"]
        if key == "file":
            files[path] = File(base64.b64decode(value["content"]), lfs=False)
        elif key == "lfsFile":
            if value["oid"] not in self.objects:
                raise Refused(400, f"{path} was never uploaded")
            files[path] = File(self.objects[value["oid"]], lfs=True)
        elif key == "deletedFile":
            if files.pop(path, None) is None:
                raise Refused(404, "A file with this name doesn't exist", "EntryNotFound")
        elif key == "deletedFolder":
            for one in [one for one in files if one.startswith(path.rstrip("/") + "/")]:
                del files[one]
        else:
            raise Refused(400, f"Unknown operation {key}")

    def resolve(self, user, request, name, revision, path):
        _, sha, files = self.found(user, name, unquote(revision))
        file = files.get(unquote(path))
        headers = {"X-Repo-Commit": sha, "Accept-Ranges": "bytes"}
        if file is None:
            raise Refused(404, "Entry not found", "EntryNotFound")
        content, status = file.content, 200
        headers |= {"ETag": f'"{file.oid}"', "X-Linked-Etag": f'"{file.oid}"', "X-Linked-Size": str(len(content))}
        span = re.fullmatch(r"bytes=(\d+)-(\d*)", request.headers.get("Range", ""))
        if span:
            start, stop = int(span[1]), min(int(span[2] or len(content) - 1), len(content) - 1)
            if start >= len(content):
                raise Refused(416, "Range not satisfiable")
            headers["Content-Range"] = f"bytes {start}-{stop}/{len(content)}"
            content, status = content[start : stop + 1], 206
        return status, headers, content


def _entries(files, prefix, recursive):
    """What a tree shows, by path."""
    made = {}
    for path, file in sorted(files.items()):
        parts = path[len(prefix) :].lstrip("/").split("/")
        for depth in range(1, len(parts) if recursive else min(len(parts), 2)):
            folder = "/".join([*([prefix] if prefix else []), *parts[:depth]])
            made[folder] = {"type": "directory", "path": folder, "oid": hashlib.sha1(folder.encode()).hexdigest()}
        if recursive or len(parts) == 1:
            made[path] = {"type": "file", "path": path, "size": len(file.content), "oid": file.oid}
            if file.lfs:
                made[path]["lfs"] = {"oid": file.oid, "size": len(file.content), "pointerSize": 130}
    return made


_NAME, _KIND = r"([^/]+/[^/]+)", "(?:datasets|models)"
ROUTES = [
    ("GET", "/api/whoami-v2", Hub.whoami),
    ("POST", "/api/repos/create", Hub.create_repo),
    ("DELETE", "/api/repos/delete", Hub.delete_repo),
    ("POST", "/api/validate-yaml", Hub.validate),
    ("GET", f"/api/{_KIND}/{_NAME}", Hub.info),
    ("GET", f"/api/{_KIND}/{_NAME}/revision/([^/]+)", Hub.info),
    ("GET", f"/api/{_KIND}/{_NAME}/refs", Hub.refs),
    ("POST", f"/api/{_KIND}/{_NAME}/branch/([^/]+)", Hub.branch),
    ("GET", f"/api/{_KIND}/{_NAME}/tree/([^/]+)(?:/(.*))?", Hub.tree),
    ("POST", f"/api/{_KIND}/{_NAME}/paths-info/([^/]+)", Hub.paths_info),
    ("POST", f"/api/{_KIND}/{_NAME}/preupload/([^/]+)", Hub.preupload),
    ("POST", f"/api/{_KIND}/{_NAME}/commit/([^/]+)", Hub.commit),
    ("POST", f"/datasets/{_NAME}\\.git/info/lfs/objects/batch", Hub.lfs_batch),
    ("PUT", "/lfs/([0-9a-f]+)", Hub.lfs_put),
    ("GET", f"(?:/datasets)?/{_NAME}/resolve/([^/]+)/(.+)", Hub.resolve),
]
ROUTES = [(method, re.compile(pattern), answer) for method, pattern, answer in ROUTES]


@dataclass(frozen=True)
class Request:
    root: str
    headers: object
    query: dict
    body: bytes

    @property
    def json(self):
        """The body; clients before huggingface_hub 1.0 send some as a form, in which every value is a list."""
        if self.headers.get("Content-Type") == "application/x-www-form-urlencoded":
            return parse_qs(self.body.decode())
        return json.loads(self.body or b"{}")


@contextmanager
def serving(listener):
    """A `Hub` behind a bound socket, which nobody else can take."""
    hub = Hub()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True
        wbufsize = -1

        def answer(self):
            url = urlsplit(self.path)
            fault = hub.take(self.command, url.path)
            if fault == "drop":
                return self.hang_up()
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            if isinstance(fault, int):
                return self.respond(fault, {"Retry-After": "0"}, b'{"error": "try later"}')
            request = Request(f"http://{self.headers['Host']}", self.headers, parse_qs(url.query), body)
            with hub.lock:
                reply = self.reply(url.path, request)
            return self.hang_up() if fault == "lose" else self.respond(*reply)

        def reply(self, path, request):
            method = "GET" if self.command == "HEAD" else self.command
            user, token = None, (self.headers.get("Authorization") or "").removeprefix("Bearer ")
            try:
                if token:
                    user = TOKENS.get(token)
                    if user is None:
                        raise Refused(401, "Invalid credentials in Authorization header")
                for allowed, pattern, answer in ROUTES:
                    match = pattern.fullmatch(path)
                    if match and allowed == method:
                        made = answer(hub, user, request, *(part for part in match.groups() if part is not None))
                        json_headers = {"Content-Type": "application/json"}
                        return made if isinstance(made, tuple) else (200, json_headers, json.dumps(made).encode())
                raise Refused(404, f"No route for {method} {path}")
            except Refused as refused:
                return refused.reply

        do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = answer

        def hang_up(self):
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)

        def respond(self, status, headers, body):
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def log_message(self, *parts):
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, request, address):
            pass  # a client that is gone

    server = Server(listener.getsockname(), Handler, bind_and_activate=False)
    server.socket.close()
    server.socket = listener
    server.server_activate()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        thread.join()
