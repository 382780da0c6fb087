"""A Hub on this machine: repositories are made, filled by commits, and read, over HTTP."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

COMMIT = 'c' * 40


class FakeHub(ThreadingHTTPServer):
    """One revision of each repository.

    Attributes:
        files: Contents by repository and name.
        endpoint: Its address.
    """

    def __init__(self) -> None:
        super().__init__(('127.0.0.1', 0), _Handler)
        self.files: dict[str, dict[str, bytes]] = {}
        self.endpoint = f'http://127.0.0.1:{self.server_address[1]}'

    def __enter__(self) -> FakeHub:
        Thread(target=self.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *error) -> None:
        self.shutdown()
        self.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = 'HTTP/1.1'
    server: FakeHub

    def log_message(self, *args) -> None:
        pass

    def answer(self, body: bytes, status: int = 200, **headers: str) -> None:
        self.send_response(status)
        for name, value in (headers | {'Content-Length': str(len(body))}).items():
            self.send_header(name.replace('_', '-'), value)
        self.end_headers()
        if self.command != 'HEAD':
            self.wfile.write(body)

    def tell(self, data: dict | list) -> None:
        self.answer(json.dumps(data).encode(), Content_Type='application/json')

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get('Content-Length', 0)))
        path = self.path.partition('?')[0]
        found = re.fullmatch(r'/api/models/([^/]+/[^/]+)/(preupload|commit)/main', path)
        if path == '/api/repos/create':
            asked = json.loads(body)
            name = f'{asked["organization"]}/{asked["name"]}'
            self.server.files.setdefault(name, {})
            self.tell(dict(url=f'{self.server.endpoint}/{name}', name=name, id='1'))
        elif path == '/api/validate-yaml':
            self.tell(dict(errors=[], warnings=[]))
        elif found and found[2] == 'preupload':
            files = [
                dict(path=file['path'], uploadMode='regular', shouldIgnore=False)
                for file in json.loads(body)['files']
            ]
            self.tell(dict(files=files))
        elif found:
            for line in map(json.loads, body.splitlines()):
                if line['key'] == 'file':
                    content = base64.b64decode(line['value']['content'])
                    self.server.files[found[1]][line['value']['path']] = content
                elif line['key'] == 'deletedFile':
                    del self.server.files[found[1]][line['value']['path']]
            address = f'{self.server.endpoint}/{found[1]}/commit/{COMMIT}'
            self.tell(dict(success=True, commitOid=COMMIT, commitUrl=address))
        else:
            self.answer(b'', 404)

    def do_GET(self) -> None:
        path = self.path.partition('?')[0]
        info = re.fullmatch(r'/api/models/([^/]+/[^/]+)/(revision|tree)/\w+', path)
        file = re.fullmatch(r'/([^/]+/[^/]+)/resolve/\w+/(.+)', path)
        files = self.server.files.get((info or file or {1: ''})[1], {})
        if info and info[2] == 'tree' and info[1] in self.server.files:
            self.tell(
                [
                    dict(type='file', path=name, size=len(content), oid=COMMIT)
                    for name, content in files.items()
                ]
            )
        elif info and info[2] == 'revision' and files:
            siblings = [dict(rfilename=name) for name in files]
            self.tell(dict(id=info[1], modelId=info[1], sha=COMMIT, siblings=siblings))
        elif file and file[2] in files:
            content = files[file[2]]
            tag = hashlib.sha256(content).hexdigest()
            self.answer(content, ETag=f'"{tag}"', X_Repo_Commit=COMMIT)
        else:
            self.answer(b'', 404, X_Error_Code='EntryNotFound' if files else 'RepoNotFound')

    do_HEAD = do_GET
