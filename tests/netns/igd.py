"""A real miniupnpd (Debian: miniupnpd-nftables) on a router of the lab: UPnP-IGD, NAT-PMP, PCP."""

from __future__ import annotations

from pathlib import Path

from .lab import Router
from .process import Process
from .wait import wait_until

MINIUPNPD = "/usr/sbin/miniupnpd"

_CONFIG = """
ext_ifname=wan
listening_ip=lan
enable_upnp={upnp}
enable_natpmp={natpmp}
secure_mode=yes
min_lifetime=2
max_lifetime={max_lifetime}
clean_ruleset_interval=600
notify_interval=900
uuid=3d5a7c2e-0000-4000-8000-00000000000{number}
upnp_table_name=igd
upnp_nat_table_name=igd
upnp_forward_chain=forwarded
upnp_nat_chain=mapped
upnp_nat_postrouting_chain=returning
{rules}
"""
_TABLE = """
table inet igd {{}}
delete table inet igd
table inet igd {{
    chain forwarded {{}}
    chain mapped {{}}
    chain returning {{}}
    chain prerouting {{
        type nat hook prerouting priority dstnat - 5
        jump mapped
    }}
    chain input {{
        type filter hook input priority filter - 5
        {refused}
    }}
}}
"""


class Igd:
    """The daemon. What it maps is in a table of its own, beside the router's."""

    def __init__(
        self,
        router: Router,
        folder: Path,
        *,
        upnp: bool = True,
        natpmp: bool = True,
        pcp: bool = True,
        max_lifetime: int = 86400,
        allowed_ports: str = "1024-65535",
    ) -> None:
        """Without `pcp` the router drops what is PCP: this daemon has no switch for it."""
        self._router = router
        # Version 2 is the first byte of the UDP payload.
        refused = "" if pcp else "udp dport 5351 @th,64,8 2 drop"
        router.nft(_TABLE.format(refused=refused))
        self._config = folder / f"{router.name}-miniupnpd.conf"
        self._pid_file = folder / f"{router.name}-miniupnpd.pid"
        lan = router.lan
        text = _CONFIG.format(
            upnp="yes" if upnp else "no",
            natpmp="yes" if natpmp else "no",
            max_lifetime=max_lifetime,
            number=len(router.name) % 10,
            rules=f"allow {allowed_ports} {lan} 1024-65535\ndeny 0-65535 0.0.0.0/0 0-65535",
        )
        self._config.write_text(text)
        self.process: Process
        self.start()

    def start(self) -> None:
        argv = [MINIUPNPD, "-d", "-f", str(self._config), "-P", str(self._pid_file)]
        self.process = self._router.popen(argv)
        wait_until(self._is_ready, timeout=10, what="miniupnpd")

    def stop(self) -> None:
        self.process.send_signal(15)
        self.process.wait()

    def restart(self) -> None:
        """It forgets everything; rules that are left, too."""
        self.stop()
        self._router.nft("flush chain inet igd mapped\nflush chain inet igd forwarded\n")
        self.start()

    def rules(self) -> list[str]:
        """The mappings, as the kernel has them."""
        listed = self._router.run(["nft", "list", "chain", "inet", "igd", "mapped"]).stdout
        return [line.strip() for line in listed.splitlines() if "dnat" in line]

    def _is_ready(self) -> bool:
        if self.process.returncode is not None:
            raise EOFError(self.process.tail())
        sockets = self._router.run(["ss", "-lun"]).stdout
        return ":1900 " in sockets or ":5351 " in sockets
