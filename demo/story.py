"""The main job on a real guest, told as a story: inspect, convert, translate, export, run.

`make demo` runs it.  Every command that it shows is run as shown; what follows is its own output.
Results stay in `demo-out/`.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from fixtures.guest import Guest, make_guest  # noqa: E402
from tests.integration.engines import running_docker  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Callable

OUT = ROOT / "demo-out"
IMAGES = "/var/lib/libvirt/images"  # where the guest's descriptor looks for its disk
PAGE = "Hello from a guest that vmport moved"
PORT = 8080

console = Console(highlight=False, soft_wrap=True)
findings: list[tuple[str, str]] = []


def main() -> None:
    """Tell the whole story; any step that fails ends it with its exit code."""
    started = time.monotonic()
    console.print(
        "[bold]vmport moves a virtual machine, and then takes it apart into a container.[/]"
    )
    guest = make_the_guest()
    look_at_it()
    convert_there_and_back()
    translate_the_machine()
    boot_on_another_hypervisor()
    export_a_container(guest)
    run_the_container()
    chapter("What happened", f"All of it took {time.monotonic() - started:.0f} seconds.")
    for what, result in findings:
        console.print(f"  [green]✓[/] {escape(what)}: {escape(result)}")
    console.print(f"\nEverything that was made is in {OUT.relative_to(ROOT)}/.")


def make_the_guest() -> Guest:
    chapter(
        "A guest",
        "A Debian kernel, BusyBox with its web server, an ext4 disk behind GRUB, and a libvirt "
        "domain. All of it is made here, from Debian's packages.",
    )
    guest = make_guest(ROOT / ".cache" / "guest")
    shutil.rmtree(OUT, ignore_errors=True)
    OUT.mkdir()
    shutil.copy(guest.disk, OUT / "guest.qcow2")
    descriptor = guest.descriptor.read_text()
    (OUT / "guest.xml").write_text(descriptor.replace(IMAGES, str(OUT)))
    (OUT / "rootfs").symlink_to(os.path.relpath(guest.rootfs, OUT))
    run("ls", "-lh", "guest.qcow2", "guest.xml")
    return guest


def look_at_it() -> None:
    chapter(
        "What is it?", "vmport reads the content, never the suffix, and says if it is safe to use."
    )
    vmport("inspect", "guest.qcow2")
    vmport("validate", "guest.xml")


def convert_there_and_back() -> None:
    chapter(
        "To VMware's disk format, and back",
        "The result appears whole or not at all; before it appears its content is compared with "
        "the source.",
    )
    vmport("convert", "guest.qcow2", "guest.vmdk", "-o", "subformat=streamOptimized")
    vmport("convert", "guest.vmdk", "back.qcow2")
    said = run("qemu-img", "compare", "-f", "qcow2", "-F", "qcow2", "guest.qcow2", "back.qcow2")
    findings.append(("qcow2 → streamOptimized VMDK → qcow2", said.strip()))


def translate_the_machine() -> None:
    chapter(
        "The machine itself",
        "A hypervisor needs more than a disk. The libvirt domain becomes a VMX and an OVF; a "
        "ledger accounts for every single value of the original.",
    )
    vmport("translate", "guest.xml", "guest.vmx", "--ledger", "guest.vmx.ledger.json")
    console.print("\nThe OVF has the same account; this time it goes to the file only.")
    vmport(
        "-q", "translate", "guest.xml", "guest.ovf", "--allow", ".",
        "--ledger", "guest.ovf.ledger.json",
    )  # fmt: skip
    vmport("validate", "guest.vmx", "guest.ovf")
    if shutil.which("virt-v2v"):
        console.print("\nA second opinion, from a reader that is not ours:")
        run("virt-v2v", "-i", "vmx", "guest.vmx", "--print-source")
        findings.append(("guest.xml → guest.vmx, guest.ovf", "validated; virt-v2v reads the VMX"))


def boot_on_another_hypervisor() -> None:
    if not shutil.which("qemu-system-x86_64"):
        return
    chapter(
        "Does it boot?",
        "The VMDK on VMware's paravirtual SCSI controller, as the VMX asks for. The processor is "
        "emulated, so this takes about a quarter of a minute.",
    )
    log = OUT / "serial.log"
    argv = [
        "qemu-system-x86_64", "-accel", "tcg", "-m", "512", "-smp", "2", "-display", "none",
        "-no-reboot", "-nic", "none", "-serial", f"file:{log.name}", "-snapshot",
        "-drive", "file=guest.vmdk,format=vmdk,if=none,id=disk",
        "-device", "pvscsi", "-device", "scsi-hd,drive=disk",
    ]  # fmt: skip
    show(argv)
    machine = subprocess.Popen(
        argv, cwd=OUT, stdin=subprocess.DEVNULL, stderr=(OUT / "qemu.log").open("wb")
    )
    try:
        up = wait_for(lambda: "vmport guest: up" in read(log), seconds=90)
    finally:
        machine.terminate()
        machine.wait()
    lines = re.findall("vmport guest:[^\r\n]*", read(log))
    console.print("\n".join(f"    {escape(line)}" for line in lines))
    if not up:
        raise SystemExit("the converted disk did not boot; see demo-out/serial.log")
    findings.append(("the VMDK boots on another virtual controller", lines[-1]))


def export_a_container(guest: Guest) -> None:
    chapter(
        "The same system as a container image",
        "A container shares the host's kernel, so the image must hold none: the kernel, its "
        "modules, the boot loader and the machine's own secrets stay behind.",
    )
    vmport(
        "export", "rootfs", "image.tar", "--as", "docker-archive", "--tag", "vmport-demo:latest",
        "--port", f"{PORT}/tcp", "--cmd", f"httpd -f -v -p {PORT} -h /var/www",
    )  # fmt: skip
    kernels = sorted(path.name for path in guest.rootfs.glob("boot/vmlinuz-*"))
    findings.append((f"the guest's {', '.join(kernels)}", "stayed behind"))


def run_the_container() -> None:
    chapter("Run it", "Docker loads the image, runs it, and we fetch its page.")
    if shutil.which("docker") is None or (os.geteuid() != 0 and not engine_answers()):
        console.print("No Docker engine can be had here (not root, or docker.io is not installed).")
        return
    with (
        tempfile.TemporaryDirectory(prefix="vmport-demo-") as folder,
        running_docker(Path(folder)) as docker,
    ):
        host = {**os.environ, "DOCKER_HOST": docker.host}
        run("docker", "load", "-i", "image.tar", environment=host)
        container = run(
            "docker", "run", "-d", "-p", f"127.0.0.1::{PORT}", "vmport-demo:latest",
            environment=host,
        ).strip()[:12]  # fmt: skip
        try:
            visit(container, host)
        finally:
            run("docker", "rm", "-f", container, environment=host)
    findings.append(("the container serves its page", PAGE))
    findings.append(("a search for a kernel inside it", "finds nothing"))


def visit(container: str, host: dict[str, str]) -> None:
    """Fetch the container's page, and look for a kernel inside."""
    bound = run("docker", "port", container, f"{PORT}/tcp", environment=host)
    page = fetch(f"http://{bound.split()[0]}/")
    console.print(f"\n  The page that it serves there:\n\n[cyan]{escape(page.strip())}[/]")
    if PAGE not in page:
        raise SystemExit("demo: the container does not serve its page")
    look = "find / -xdev -name 'vmlinuz*'; ls -A /lib/modules"
    found = run("docker", "exec", container, "sh", "-c", look, environment=host)
    if found.strip():
        raise SystemExit(f"demo: there is a kernel in the container: {found}")
    console.print("    (nothing: there is no kernel inside)", style="cyan")


def engine_answers() -> bool:
    return subprocess.run(["docker", "info"], capture_output=True, check=False).returncode == 0


def chapter(title: str, text: str) -> None:
    console.rule(f"[bold]{escape(title)}", align="left")
    console.print(escape(text))


def vmport(*arguments: str) -> str:
    """Run vmport as the user would."""
    return run("vmport", *arguments, program=str(Path(sys.executable).with_name("vmport")))


def run(*argv: str, program: str | None = None, environment: dict[str, str] | None = None) -> str:
    """Show the command, run it in the output folder, show what it says."""
    show(argv)
    done = subprocess.run(
        [program or argv[0], *argv[1:]],
        cwd=OUT,
        env=environment,
        check=False,
        text=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    for line in done.stdout.splitlines():
        console.print(f"    {escape(line)}", style="cyan")
    if done.returncode:
        raise SystemExit(f"demo: {argv[0]} {argv[1]} ended with status {done.returncode}")
    return done.stdout


def show(argv: list[str] | tuple[str, ...]) -> None:
    console.print(f"\n  [bold]$ {escape(shlex.join(argv))}[/]")


def wait_for(ready: Callable[[], bool], *, seconds: float) -> bool:
    """Whether `ready` came true in time."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if ready():
            return True
        time.sleep(0.2)
    return False


def read(path: Path) -> str:
    return path.read_text(errors="replace") if path.exists() else ""


def fetch(address: str) -> str:
    """The page at `address`, once its server is up."""
    last: OSError | None = None
    for _ in range(100):
        try:
            with urllib.request.urlopen(address, timeout=5) as answer:
                return str(answer.read().decode())
        except OSError as error:
            last = error
            time.sleep(0.1)
    raise SystemExit(f"demo: {address} does not answer: {last}")


if __name__ == "__main__":
    main()
