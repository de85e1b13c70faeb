"""A web server with TLS before the rendezvous server's WebSocket."""

from __future__ import annotations

import subprocess
from pathlib import Path

from .host import Host
from .process import Process

NAME = "vps.example.test"


class WebServer:
    """nginx with TLS on 443 before the server's WebSocket, as docs/tcp-and-https.md has it."""

    def __init__(self, host: Host, folder: Path, backend: int) -> None:
        folder.mkdir()
        self.certificate = folder / "cert.pem"
        make_certificate(folder, host.ip4)
        (folder / "nginx.conf").write_text(f"""
            daemon off;
            pid {folder}/nginx.pid;
            error_log stderr;
            worker_processes 1;
            events {{ worker_connections 64; }}
            http {{
                access_log off;
                client_body_temp_path {folder}/body;
                proxy_temp_path {folder}/proxy;
                fastcgi_temp_path {folder}/fastcgi;
                uwsgi_temp_path {folder}/uwsgi;
                scgi_temp_path {folder}/scgi;
                server {{
                    listen 443 ssl;
                    server_name {NAME};
                    ssl_certificate {folder}/cert.pem;
                    ssl_certificate_key {folder}/key.pem;
                    location = /punchtun {{
                        proxy_pass http://127.0.0.1:{backend};
                        proxy_http_version 1.1;
                        proxy_set_header Upgrade $http_upgrade;
                        proxy_set_header Connection "upgrade";
                        proxy_set_header Host $host;
                        proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
                        proxy_buffering off;
                    }}
                }}
            }}
            """)
        self.process: Process = host.popen(["nginx", "-e", "stderr", "-c", f"{folder}/nginx.conf"])


def make_certificate(folder: Path, address: str) -> None:
    """cert.pem and key.pem in `folder`, for NAME and an address."""
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"),
            *("-nodes", "-days", "2", "-subj", f"/CN={NAME}"),
            *("-addext", f"subjectAltName=DNS:{NAME},IP:{address}"),
            *("-keyout", str(folder / "key.pem"), "-out", str(folder / "cert.pem")),
        ],
        check=True,
        capture_output=True,
    )
