#![allow(warnings, clippy::all)]
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use strongroom_policy::claims::{Claims, Features, Length, Stream};
use strongroom_policy::name::{Label, ModelName, ProviderName};
use strongroom_policy::route::Method;
use strongroom_policy::rules::{Choice, CredentialRules, TokenScope};
use strongroom_policy::target::Target;
use strongroom_protocol::SecretBytes;
use strongroom_protocol::ask::*;
use strongroom_protocol::errand::{Ending, FromCourier, Outcome, ToCourier};
use strongroom_protocol::frame::*;
use strongroom_protocol::operator::{
    Answer as Told, CredentialWish, HomePick, Pick, Request, SealWish, TokenWish,
};
use strongroom_protocol::upload::seal_upload;
use strongroom_protocol::usage::Usage;
use zeroize::Zeroizing;
const LIMIT: usize = 1 << 20;
struct Door {
    s: UnixStream,
    buf: Vec<u8>,
    at: usize,
}
impl Door {
    fn new(p: &std::path::Path, n: &str) -> Self {
        Self {
            s: UnixStream::connect(p.join(format!("{n}/{n}.sock"))).unwrap(),
            buf: vec![],
            at: 0,
        }
    }
    fn send<M: serde::Serialize>(&mut self, m: &M) {
        self.s.write_all(&encode(m, LIMIT).unwrap()).unwrap()
    }
    fn recv<M: serde::de::DeserializeOwned>(&mut self) -> M {
        loop {
            if let Some((body, used)) = split_first(&self.buf[self.at..], LIMIT).unwrap() {
                let m = decode(body).unwrap();
                self.at += used;
                return m;
            }
            self.buf.drain(..self.at);
            self.at = 0;
            let mut b = [0; 65536];
            let n = self.s.read(&mut b).unwrap();
            assert!(n > 0);
            self.buf.extend_from_slice(&b[..n]);
        }
    }
    fn req(&mut self, r: &Request) -> Told {
        self.send(r);
        self.recv()
    }
}
fn cpu(pid: u32) -> (u64, u64, u64, u64) {
    let s = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let f: Vec<&str> = s.rsplit(')').next().unwrap().split_whitespace().collect();
    let (mut ns, mut cs) = (0, 0);
    for t in std::fs::read_dir(format!("/proc/{pid}/task")).unwrap() {
        let p = t.unwrap().path();
        ns += std::fs::read_to_string(p.join("schedstat"))
            .unwrap()
            .split_whitespace()
            .next()
            .unwrap()
            .parse::<u64>()
            .unwrap();
        for l in std::fs::read_to_string(p.join("status")).unwrap().lines() {
            if l.contains("voluntary_ctxt") {
                cs += l.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap()
            }
        }
    }
    (f[11].parse().unwrap(), f[12].parse().unwrap(), ns, cs)
}
fn main() {
    let a: Vec<String> = std::env::args().collect();
    let (bin, batch, secs) = (&a[1], a[2].parse::<usize>().unwrap(), a[3].parse::<u64>().unwrap());
    let place = std::path::PathBuf::from(format!("/tmp/w/drive-{}", std::process::id()));
    std::fs::create_dir_all(place.join("run")).unwrap();
    let uid = nix::unistd::getuid().to_string();
    let mut child = Command::new(bin)
        .arg("--data")
        .arg(place.join("data"))
        .arg("--run")
        .arg(place.join("run"))
        .args(["--public-url", "https://localhost:8443", "--ask-uid", &uid, "--errand-uid", &uid])
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    while !line.contains("the keeper is there") {
        line.clear();
        assert!(said.read_line(&mut line).unwrap() > 0)
    }
    std::thread::spawn(move || {
        for l in said.lines() {
            eprintln!("{}", l.unwrap())
        }
    });
    let run = place.join("run");
    let mut op = Door::new(&run, "operator");
    let label = |t: &str| Label::parse(t).unwrap();
    let Told::Initialised(vault) = op.req(&Request::Init(SealWish::Passphrase(
        SecretBytes::copy_from(b"correct horse battery staple"),
    ))) else {
        panic!()
    };
    op.req(&Request::UserCreate(label("ann")));
    let Told::Upload { binding, .. } = op.req(&Request::CredentialAdd(Box::new(CredentialWish {
        provider: ProviderName::parse("openai").unwrap(),
        home: HomePick::Personal(None),
        label: label("main"),
        fixed_headers: vec![],
        rules: CredentialRules::default(),
    }))) else {
        panic!()
    };
    let blob =
        seal_upload(&vault, &binding, b"sk-canary-0123456789abcdefghijklmnopqrstuvwxyz").unwrap();
    op.req(&Request::CredentialUpload { upload: binding.upload, blob });
    let scope = TokenScope {
        providers: Choice::Any,
        models: Choice::Any,
        credential: None,
        expires: None,
        calls_per_minute: 1_000_000,
    };
    let texts: Vec<SecretBytes> = (0..32)
        .map(|i| {
            match op.req(&Request::TokenCreate(Box::new(TokenWish {
                user: None,
                label: label(&format!("t{i}")),
                scope: scope.clone(),
                credential: None,
            }))) {
                Told::Token { text, .. } => text,
                o => panic!("{o:?}"),
            }
        })
        .collect();
    let mut courier = Door::new(&run, "errand");
    std::thread::sleep(Duration::from_millis(200));
    let mut gw = Door::new(&run, "ask");
    let ask = |number: u64| FromGateway {
        number,
        ask: Ask::Call(Box::new(CallAsk {
            proof: texts[number as usize % 32].expose(SecretBytes::copy_from),
            provider: ProviderName::parse("openai").unwrap(),
            choice: None,
            method: Method::Post,
            target: Target::parse("/v1/chat/completions").unwrap(),
            betas: vec![],
            claims: Claims {
                model: Some(ModelName::parse("gpt-4o-mini").unwrap()),
                max_output: Some(10),
                answers: 1,
                stream: Stream::Whole,
                features: Features::NONE,
            },
            length: Length::Known(100),
        })),
    };
    let mut calls = 0u64;
    let (mut t0, mut c0, mut n0) = (Instant::now(), cpu(child.id()), 0);
    let end = Instant::now() + Duration::from_secs(secs + 1);
    let mut warm = false;
    while Instant::now() < end {
        if !warm && Instant::now() + Duration::from_secs(secs) > end {
            warm = true;
            t0 = Instant::now();
            c0 = cpu(child.id());
            n0 = calls
        }
        let mut out = Zeroizing::new(vec![]);
        for i in 0..batch {
            encode_into(&mut out, &ask(calls + i as u64), LIMIT).unwrap()
        }
        gw.s.write_all(&out).unwrap();
        let mut out = Zeroizing::new(vec![]);
        let mut got = 0;
        while got < batch {
            match gw.recv() {
                ToGateway::Answer { answer: Answer::Admitted { ticket, .. }, .. } => {
                    encode_into(&mut out, &FromCourier::Redeem(ticket), LIMIT).unwrap();
                    got += 1
                }
                ToGateway::Answer { answer, .. } => panic!("{answer:?}"),
                _ => {}
            }
        }
        courier.s.write_all(&out).unwrap();
        let mut out = Zeroizing::new(vec![]);
        for _ in 0..batch {
            match courier.recv() {
                ToCourier::Errand { errand, .. } => encode_into(
                    &mut out,
                    &FromCourier::Outcome(Box::new(Outcome {
                        call: errand.call,
                        status: Some(200),
                        ending: Ending::Complete,
                        usage: Usage { input: Some(10), output: Some(20), ..Usage::default() },
                        sent_bytes: 100,
                        received_bytes: 1000,
                        scrubbed: 0,
                        first_byte: Some(Duration::from_micros(900)),
                        total: Duration::from_micros(1000),
                    })),
                    LIMIT,
                )
                .unwrap(),
                o => panic!("{o:?}"),
            }
        }
        courier.s.write_all(&out).unwrap();
        calls += batch as u64;
    }
    let c1 = cpu(child.id());
    let n = (calls - n0) as f64;
    println!(
        "batch {batch}: {:.0}/s  total {:.2} µs  user {:.2} kernel {:.2}  switches {:.2}/call",
        n / t0.elapsed().as_secs_f64(),
        (c1.2 - c0.2) as f64 / n / 1e3,
        (c1.0 - c0.0) as f64 * 1e4 / n,
        (c1.1 - c0.1) as f64 * 1e4 / n,
        (c1.3 - c0.3) as f64 / n
    );
    child.kill().unwrap();
    std::fs::remove_dir_all(place).unwrap();
}
