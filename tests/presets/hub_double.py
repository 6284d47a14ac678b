"""A Hugging Face Hub in memory, on 127.0.0.1, as far as presets use it."""

import base64
import hashlib
import json
import re
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class HubDouble:
    """Serves repositories; `with HubDouble() as hub: ... hub.url`.

    `hub.repos[id]["refs"][branch]` is a commit, `hub.commits[commit]` maps paths to
    bytes; both may be changed while it runs. `hub.large_files[sha256]` are the bytes
    that were sent ahead of a commit.

    Attributes:
        owners: who the user may write as.
        tokens: the ones that are known.
        requests: "GET /path" of all requests.
        broken: patterns of requests whose connection breaks off.
        cards: the cards whose front matter was asked to be checked.
    """

    def __init__(self):
        self.repos, self.commits, self.large_files = {}, {}, {}
        self.owners, self.tokens = {"me"}, {"hf_loopback"}
        self.broken, self.cards = [], []
        self.requests = []
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def __enter__(self):
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *exception):
        self.server.shutdown()
        self.server.server_close()

    def create(self, repo, private=False):
        self.repos[repo] = {"refs": {}, "tags": {}, "private": private}
        self.commit(repo, "main", {})

    def commit(self, repo, branch, files):
        content = b"".join(sorted(path.encode() + files[path] for path in files))
        count = str(len(self.commits)).encode()
        commit = hashlib.sha1(count + content).hexdigest()
        self.commits[commit] = files
        self.repos[repo]["refs"][branch] = commit
        return commit

    def resolve(self, repo, revision):
        """The commit of a branch, tag or commit, or None."""
        references = self.repos[repo]["refs"] | self.repos[repo]["tags"]
        commit = references.get(revision, revision)
        return commit if commit in self.commits else None

    # Answers are (status, content, headers).

    def get(self, path, token=None):
        if path == "/api/whoami-v2":
            if token not in self.tokens:
                return 401, {"error": "Invalid username or password."}, {}
            return 200, {"type": "user", "name": "me", "auth": {}}, {}
        if match := re.fullmatch(r"/api/models/([^/]+/[^/]+)(/.*)?", path):
            repo, rest = match[1], match[2] or "/revision/main"
            if rest == "/refs":
                return self._missing(repo, "main") or (200, self._references(repo), {})
            _, kind, revision = rest.split("/", 2)
            if error := self._missing(repo, revision):
                return error
            commit = self.resolve(repo, revision)
            files = self.commits[commit]
            if kind == "tree":
                return 200, [_entry(path, files[path]) for path in files], {}
            siblings = [{"rfilename": path} for path in files]
            return 200, {"id": repo, "sha": commit, "siblings": siblings}, {}
        if match := re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
            repo, revision, file = match.groups()
            if error := self._missing(repo, revision):
                return error
            commit = self.resolve(repo, revision)
            headers = {"X-Repo-Commit": commit}
            if file not in self.commits[commit]:
                return 404, {}, {**headers, "X-Error-Code": "EntryNotFound"}
            content = self.commits[commit][file]
            return 200, content, {**headers, "ETag": f'"{_git_oid(content)}"'}
        return 404, {}, {}

    def post(self, path, body):
        if path == "/api/validate-yaml":
            self.cards.append(json.loads(body)["content"])
            return 200, {"errors": [], "warnings": []}, {}
        if path == "/api/repos/create":
            request = json.loads(body)
            owner = request.get("organization") or "me"
            repo = f"{owner}/{request['name']}"
            if owner not in self.owners:
                return 403, {"error": "You don't have the rights to create it"}, {}
            if repo in self.repos:
                return 409, {"error": "exists", "url": f"{self.url}/{repo}"}, {}
            # Clients before version 1 say it in another way.
            private = request.get("private") or request.get("visibility") == "private"
            self.create(repo, private=bool(private))
            return 200, {"url": f"{self.url}/{repo}", "name": repo}, {}
        if path.endswith(".git/info/lfs/objects/batch"):
            objects = json.loads(body)["objects"]
            for item in objects:
                if item["oid"] in self.large_files:
                    continue
                href = f"{self.url}/large/{item['oid']}"
                item["actions"] = {"upload": {"href": href}}
            return 200, {"transfer": "basic", "objects": objects}, {}
        match = re.fullmatch(r"/api/models/([^/]+/[^/]+)/(\w+)/([^/]+)", path)
        repo, action, revision = match.groups()
        if action == "branch":
            if revision in self.repos[repo]["refs"]:
                return 409, {"error": "exists"}, {}
            self.commit(repo, revision, {})
            return 200, {}, {}
        if error := self._missing(repo, revision):
            return error
        if repo.split("/")[0] not in self.owners:
            return 403, {"error": "You don't have the rights to write there"}, {}
        if action == "tag":
            tag = json.loads(body)["tag"]
            if tag in self.repos[repo]["tags"]:
                return 409, {"error": "exists"}, {}
            self.repos[repo]["tags"][tag] = self.resolve(repo, revision)
            return 200, {}, {}
        if action == "preupload":
            files = [
                {
                    "path": file["path"],
                    "uploadMode": "lfs" if _is_large(file["path"]) else "regular",
                    "shouldIgnore": False,
                }
                for file in json.loads(body)["files"]
            ]
            return 200, {"files": files}, {}
        files = dict(self.commits[self.resolve(repo, revision)])
        for line in map(json.loads, body.splitlines()):
            value = line["value"]
            parent = value.get("parentCommit", self.resolve(repo, revision))
            if parent != self.resolve(repo, revision):
                return 412, {"error": "the parent is not the head"}, {}
            if line["key"] == "deletedFile":
                del files[value["path"]]
            if line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                files[value["path"]] = self.large_files[value["oid"]]
        commit = self.commit(repo, revision, files)
        url = f"{self.url}/{repo}/commit/{commit}"
        return 200, {"commitOid": commit, "commitUrl": url}, {}

    def put(self, path, body):
        self.large_files[path.removeprefix("/large/")] = body
        return 200, {}, {}

    def _references(self, repo):
        def listed(kind, references):
            return [
                {"name": name, "ref": f"refs/{kind}/{name}", "targetCommit": commit}
                for name, commit in references.items()
            ]

        repo = self.repos[repo]
        branches, tags = listed("heads", repo["refs"]), listed("tags", repo["tags"])
        return {"branches": branches, "tags": tags, "converts": []}

    def _missing(self, repo, revision):
        if repo not in self.repos:
            return 404, {}, {"X-Error-Code": "RepoNotFound"}
        if self.resolve(repo, revision) is None:
            return 404, {}, {"X-Error-Code": "RevisionNotFound"}
        return None


def _git_oid(content):
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def _is_large(path):
    return path.endswith((".h5", ".tflite"))


def _entry(path, content):
    entry = {"type": "file", "path": path, "size": len(content)}
    if not _is_large(path):
        return {**entry, "oid": _git_oid(content)}
    large = {
        "oid": hashlib.sha256(content).hexdigest(),
        "size": len(content),
        "pointerSize": 134,
    }
    return {**entry, "oid": _git_oid(b"a pointer"), "lfs": large}


def _handler(hub):
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_HEAD(self):
            self._answer(*hub.get(self._path()))

        def do_GET(self):
            token = self.headers.get("Authorization", "").removeprefix("Bearer ")
            self._answer(*hub.get(self._path(), token))

        def do_POST(self):
            path, body = self._path(), self._body()
            if self._breaks(path):
                return
            self._answer(*hub.post(path, body))

        def do_PUT(self):
            path, body = self._path(), self._body()
            if not self._breaks(path):
                self._answer(*hub.put(path, body))

        def _breaks(self, path):
            request = f"{self.command} {path}"
            if not any(re.search(pattern, request) for pattern in hub.broken):
                return False
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)
            return True

        def _path(self):
            path = self.path.partition("?")[0]
            hub.requests.append(f"{self.command} {path}")
            return path

        def _body(self):
            if "chunked" not in self.headers.get("Transfer-Encoding", ""):
                return self.rfile.read(int(self.headers.get("Content-Length", 0)))
            body = b""
            while size := int(self.rfile.readline(), 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return body

        def _answer(self, status, content, headers):
            if not isinstance(content, bytes):
                content = json.dumps(content).encode()
            self.send_response(status)
            for key, value in headers.items():
                self.send_header(key, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content)

        def log_message(self, *arguments):
            pass

    return Handler
